"""How the folders in reference_models/ were made: random models of transformers + torch, float32.

Not run by the tests. In an environment of its own (torch 2.13, transformers 5.23):

    python make_reference_models.py reference_models

Each folder is what `save_pretrained` writes, and `logits.npz`: tokens (2, 7) and their logits, of every
position, by torch. Nothing here is shared with zojax.
"""

import pathlib
import sys

import numpy as np

COMMON = dict(vocab_size=61, initializer_range=0.3)
LLAMA = dict(hidden_size=24, intermediate_size=40, num_hidden_layers=3, num_attention_heads=6)


def configs():
    from transformers import GPT2Config, LlamaConfig, OPTConfig, Qwen2Config

    grouped = dict(num_key_value_heads=2, max_position_embeddings=32)
    return {
        "llama": LlamaConfig(**COMMON, **LLAMA, **grouped, tie_word_embeddings=False),
        "qwen2": Qwen2Config(**COMMON, **LLAMA, **grouped, tie_word_embeddings=True),
        "gpt2": GPT2Config(**COMMON, n_embd=24, n_layer=3, n_head=4, n_positions=32),
        "opt": OPTConfig(
            **{**COMMON, "init_std": 0.3},
            hidden_size=24,
            word_embed_proj_dim=24,
            ffn_dim=40,
            num_hidden_layers=3,
            num_attention_heads=4,
            max_position_embeddings=32,
        ),
    }


def main(out):
    import torch  # here, so that collecting tests does not need it
    from transformers import AutoModelForCausalLM

    tokens = np.random.default_rng(0).integers(3, 61, (2, 7))
    for name, config in configs().items():
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config).eval()
        with torch.no_grad():
            for parameter in model.parameters():  # so that no bias is zero and no gain is one
                parameter.add_(0.1 * torch.randn_like(parameter))
            logits = model(torch.tensor(tokens)).logits.numpy()
        folder = pathlib.Path(out) / name
        model.save_pretrained(folder)
        np.savez(folder / "logits.npz", tokens=tokens, logits=logits)


if __name__ == "__main__":
    main(*sys.argv[1:])
