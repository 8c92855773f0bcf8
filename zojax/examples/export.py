"""A model and tasks as files for `--weights` and `--task`: `python -m zojax.examples.export FOLDER`.

Writes SmolLM2-135M-Instruct as a Hugging Face folder, `FOLDER/smollm2`, and the shortest training reviews
twice: `FOLDER/labels.jsonl` has text and label, `FOLDER/completions.jsonl` prompt and completion. The
prompts begin with two examples, without which the model hardly ever answers with a label.
"""

import argparse
import json
import pathlib
import sys

import jax
import numpy as np

from zojax.examples import _report, _reviews, _smollm2
from zojax.examples._architectures import llama_names
from zojax.examples._tasks import PROMPT
from zojax.examples.models import llama

__all__ = ["main", "write_model", "write_tasks"]

EXAMPLES = (("A fine film.", "positive"), ("A dull mess.", "negative"))


def write_model(folder, config, params, tokenizer, stop):
    """Writes a Llama- or Qwen2-shaped model; `zojax.examples._huggingface.load` reads the same bits.

    Args:
      folder: made where it is missing.
      config: a `zojax.examples.models.llama.Config`.
      params: as for `llama.forward`, float32, float16 or bfloat16; with `head` where the readout is
        not the embedding, and with `query_bias`, `key_bias` and `value_bias` for Qwen2.
      tokenizer: a `tokenizers.Tokenizer`, or None.
      stop: the token that ends a text, or None.

    Raises:
      ValueError: for parameters that the format does not have, and parameters of another dtype or
        shape.
    """
    from safetensors.numpy import save_file

    biased = "query_bias" in params["layers"]
    _check(config, params, biased)
    folder.mkdir(parents=True, exist_ok=True)
    raw = {
        "model_type": "qwen2" if biased else "llama",
        "vocab_size": config.vocabulary,
        "hidden_size": config.width,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "intermediate_size": config.hidden,
        "rope_theta": config.rope_theta,
        "rms_norm_eps": config.epsilon,
        "tie_word_embeddings": "head" not in params,
        "eos_token_id": stop,
    }
    names = llama_names()
    tensors = {names[n].name: np.asarray(a) for n, a in params.items() if n != "layers"}
    for name, stacked in params["layers"].items():
        for i, array in enumerate(np.asarray(stacked)):
            stored = names[name].of_layer(i)
            array = array.T if stored.transposed else array
            tensors[stored.name] = np.ascontiguousarray(array)
    save_file(tensors, folder / "model.safetensors")
    if tokenizer is not None:
        tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "config.json").write_text(json.dumps(raw, indent=1))


def _check(config, params, biased):
    """Raises ValueError for parameters that would not come back."""
    expected = llama.shapes(config)
    if biased:
        expected["layers"] |= llama.bias_shapes(config)
    if "head" in params:
        expected["head"] = expected["embed"]
    found = jax.tree.map(np.shape, params)
    if found != expected:
        for part, known in ((found, expected), (found["layers"], expected["layers"])):
            for name in sorted(part.keys() ^ known.keys()):
                raise ValueError(
                    f"params has a wrong or missing {name!r}: the format has {sorted(known)}. "
                    "Merge adapters into the matrices, and drop shifts and prefixes."
                )
        raise ValueError(f"params has the shapes {found}, expected {expected} for {config}.")
    kinds = {str(leaf.dtype) for leaf in jax.tree.leaves(params)}
    if not kinds <= {"float32", "float16", "bfloat16"}:
        raise ValueError(
            f"params must be of float32, float16 or bfloat16, got {sorted(kinds)}; cast them."
        )


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
