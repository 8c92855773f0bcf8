"""How the folders in reference_models/ were made: random models of transformers + torch, float32.

Not run by the tests. In an environment of its own (torch 2.13 and 2.14, transformers 5.23 and 5.24):

    python make_reference_models.py reference_models [NAME ...]

Each folder is what `save_pretrained` writes, and `logits.npz`: tokens (2, 7) and their logits, of every
position, or of the row for a classifier, by torch. Encoders have padding at the end of the second row.
Nothing here is shared with zojax.
"""

import pathlib
import sys

import numpy as np

COMMON = dict(vocab_size=61, initializer_range=0.3)
LLAMA = dict(hidden_size=24, intermediate_size=40, num_hidden_layers=3, num_attention_heads=6)
GROUPED = dict(num_key_value_heads=2, max_position_embeddings=32)
SMALL = dict(hidden_size=16, intermediate_size=24, num_hidden_layers=3, num_attention_heads=2)
NEWER = dict(**COMMON, **SMALL, num_key_value_heads=1, max_position_embeddings=64)
GEMMA = dict(**NEWER, head_dim=6, query_pre_attn_scalar=10, sliding_window=3)
BANDS = dict(rope_type="llama3", rope_theta=100.0, factor=4.0, low_freq_factor=1.0)
BANDS |= dict(high_freq_factor=4.0, original_max_position_embeddings=64)
ENCODER = dict(**COMMON, **SMALL, max_position_embeddings=16)


def configs():
    import transformers as t

    return {
        "llama": t.LlamaConfig(**COMMON, **LLAMA, **GROUPED, tie_word_embeddings=False),
        "qwen2": t.Qwen2Config(**COMMON, **LLAMA, **GROUPED, tie_word_embeddings=True),
        "gpt2": t.GPT2Config(**COMMON, n_embd=24, n_layer=3, n_head=4, n_positions=32),
        "opt": t.OPTConfig(
            **{**COMMON, "init_std": 0.3},
            hidden_size=24,
            word_embed_proj_dim=24,
            ffn_dim=40,
            num_hidden_layers=3,
            num_attention_heads=4,
            max_position_embeddings=32,
        ),
        "llama3": t.LlamaConfig(**NEWER, rope_parameters=BANDS),
        "mistral": t.MistralConfig(**NEWER, sliding_window=3),
        "qwen3": t.Qwen3Config(
            **NEWER, head_dim=6, use_sliding_window=True, sliding_window=3, max_window_layers=1
        ),
        "phi3": t.Phi3Config(**NEWER, pad_token_id=0, eos_token_id=2),
        "smollm3": t.SmolLM3Config(
            **NEWER, no_rope_layers=[1, 0, 1], pad_token_id=0, bos_token_id=1, eos_token_id=2
        ),
        "gemma2": t.Gemma2Config(**GEMMA, attn_logit_softcapping=2.0, final_logit_softcapping=3.0),
        "gemma3": t.Gemma3TextConfig(
            **GEMMA,
            layer_types=["sliding_attention", "full_attention", "sliding_attention"],
            rope_parameters={
                "sliding_attention": dict(rope_type="default", rope_theta=100.0),
                "full_attention": dict(rope_type="linear", rope_theta=1e4, factor=8.0),
            },
        ),
        "bert": t.BertConfig(**ENCODER, num_labels=3),
        "roberta": t.RobertaConfig(**ENCODER, pad_token_id=1, type_vocab_size=1),
    }


def made(name, config):
    import torch
    import transformers as t

    kinds = {"bert": t.AutoModelForSequenceClassification, "roberta": t.AutoModelForMaskedLM}
    kind = kinds.get(name, t.AutoModelForCausalLM)
    torch.manual_seed(0)
    model = kind.from_config(config, attn_implementation="eager").eval()
    with torch.no_grad():
        for parameter in model.parameters():  # so that no bias is zero and no gain is one
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def main(out, *names):
    import torch  # here, so that collecting tests does not need it

    every = configs()
    for name in names or every:
        config, tokens = every[name], np.random.default_rng(0).integers(3, 61, (2, 7))
        options = {}
        if name in ("bert", "roberta"):
            tokens[1, 5:] = config.pad_token_id
            options["attention_mask"] = torch.tensor(tokens != config.pad_token_id)
        model = made(name, config)
        with torch.no_grad():
            logits = model(torch.tensor(tokens), **options).logits.numpy()
        folder = pathlib.Path(out) / name
        model.save_pretrained(folder)
        np.savez(folder / "logits.npz", tokens=tokens, logits=logits)


if __name__ == "__main__":
    main(*sys.argv[1:])
