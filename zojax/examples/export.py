"""A model and tasks as files for `--weights` and `--task`: `python -m zojax.examples.export FOLDER`.

Writes SmolLM2-135M-Instruct as a Hugging Face folder, `FOLDER/smollm2`, and the shortest training reviews
twice: `FOLDER/labels.jsonl` has text and label, `FOLDER/completions.jsonl` prompt and completion. The
prompts begin with two examples, without which the model hardly ever answers with a label.
"""

import argparse
import json
import pathlib
import sys

import numpy as np

from zojax.examples import _huggingface, _report, _reviews, _smollm2
from zojax.examples._tasks import PROMPT

__all__ = ["main", "write_model", "write_tasks"]

EXAMPLES = (("A fine film.", "positive"), ("A dull mess.", "negative"))


def write_model(folder, config, params, tokenizer, stop):
    """Writes a Llama-shaped model as `zojax.examples._huggingface.load` reads it.

    Args:
      folder: made where it is missing.
      config: a `zojax.examples.models.llama.Config`; the embedding is also the readout.
      params: as for `llama.forward`.
      tokenizer: a `tokenizers.Tokenizer`.
      stop: the token that ends a text.
    """
    from safetensors.numpy import save_file

    folder.mkdir(parents=True, exist_ok=True)
    raw = {
        "model_type": "llama",
        "vocab_size": config.vocabulary,
        "hidden_size": config.width,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "intermediate_size": config.hidden,
        "rope_theta": config.rope_theta,
        "rms_norm_eps": config.epsilon,
        "tie_word_embeddings": True,
        "eos_token_id": stop,
    }
    names = _huggingface.llama_names()
    tensors = {names[n]: np.asarray(params[n]) for n in ("embed", "norm")}
    for name, stacked in params["layers"].items():
        for i, array in enumerate(stacked):
            tensors[names[name].format(i)] = np.ascontiguousarray(np.asarray(array).T)
    (folder / "config.json").write_text(json.dumps(raw, indent=1))
    save_file(tensors, folder / "model.safetensors")
    tokenizer.save(str(folder / "tokenizer.json"))


def write_tasks(folder, reviews, names=("negative", "positive")):
    """Writes reviews in both forms."""
    pairs = [(text, names[label]) for text, label in zip(*reviews, strict=True)]
    labels = [{"text": text, "label": name} for text, name in pairs]
    begin = "".join(f"{PROMPT.format(text)} {name}\n" for text, name in EXAMPLES)
    prompts = [begin + PROMPT.format(text) for text, _ in pairs]
    completions = [
        {"prompt": p, "completion": f" {n}"} for p, (_, n) in zip(prompts, pairs, strict=True)
    ]
    for name, rows in (("labels", labels), ("completions", completions)):
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(lines)


def main(argv=None):
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m zojax.examples.export", description=__doc__)
    parser.add_argument("folder", type=pathlib.Path, help="where to write; about 540 MB")
    parser.add_argument("--examples", type=int, default=768, help="reviews in each file")
    args = parser.parse_args(argv)
    with _report.refusing(parser, "safetensors"):
        if args.examples < 10:
            raise ValueError(f"--examples must be 10 at least, got {args.examples}.")
        args.folder.mkdir(parents=True, exist_ok=True)
        params, tokenizer = _smollm2.load()
        reviews = _reviews.load().train
    shortest = np.argsort([len(text) for text in reviews.texts], kind="stable")[: args.examples]
    stop = tokenizer.token_to_id("<|im_end|>")
    write_model(args.folder / "smollm2", _smollm2.CONFIG, params, tokenizer, stop)
    write_tasks(args.folder, reviews.take(np.sort(shortest)))
    print(*sorted(args.folder.iterdir()), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
