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

from zojax import lm
from zojax.examples import _report
from zojax.lm.tasks import _review_texts
from zojax.lm.tasks._reviews import PROMPT

__all__ = ["main", "write_tasks"]

EXAMPLES = (("A fine film.", "positive"), ("A dull mess.", "negative"))


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
        model = lm.smollm2()
        reviews = _review_texts.load().train
    shortest = np.argsort([len(text) for text in reviews.texts], kind="stable")[: args.examples]
    lm.save(args.folder / "smollm2", model)
    write_tasks(args.folder, reviews.take(np.sort(shortest)))
    print(*sorted(args.folder.iterdir()), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
