"""How reference_logits.npz was made: transformers + torch, float32, from the same GGUF file.

Not run by the tests. In an environment of its own (torch 2.13, transformers 5.23, accelerate, gguf 0.19):

    python make_reference_logits.py SmolLM2-135M-Instruct.Q4_1.gguf reference_logits.npz

transformers dequantises the file itself, undoes the permutation of the query and key rows, and
builds its own tokenizer, so nothing here is shared with zojax. Stored, for each prompt: its
tokens, and the logits of every 128th vocabulary entry at the last position.
"""

import os
import sys

import numpy as np

PROMPTS = (
    "The capital of France is",
    "Review: It's a charming 1999 film, and often very funny.\nSentiment:",
)


def main(gguf_path, out_path):
    import torch  # here, so that collecting tests does not need it
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder, name = os.path.split(os.path.abspath(gguf_path))
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=name)
    model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float32)
    arrays = {"rows": np.arange(0, model.config.vocab_size, 128)}
    for i, prompt in enumerate(PROMPTS):
        tokens = tokenizer(prompt, return_tensors="pt").input_ids
        with torch.no_grad():
            logits = model.eval()(tokens).logits[0, -1].numpy()
        print(repr(prompt), "->", repr(tokenizer.decode(int(logits.argmax()))))
        arrays[f"tokens_{i}"] = tokens[0].numpy().astype(np.int32)
        arrays[f"logits_{i}"] = logits[arrays["rows"]].astype(np.float32)
    np.savez(out_path, **arrays)


if __name__ == "__main__":
    main(*sys.argv[1:])
