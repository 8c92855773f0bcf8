"""A model and tasks as files for `--weights` and `--task`: `python -m zojax.examples.export FOLDER`.

- `FOLDER/smollm2` is SmolLM2-135M-Instruct as a Hugging Face folder.
- `FOLDER/labels.jsonl` has the shortest training reviews as text and label.
- `FOLDER/completions.jsonl` has them as prompt and completion.

The prompts begin with two examples. Without them the model hardly ever answers with a label.
"""

import argparse
import json
import pathlib
import sys

import numpy as np

from zojax import lm
from zojax.examples import _command

__all__ = ["main", "write_tasks"]

EXAMPLES = (("A fine film.", "positive"), ("A dull mess.", "negative"))


def write_tasks(folder: pathlib.Path, reviews: lm.Reviews) -> None:
    """Writes reviews in both forms."""
    names = [("negative", "positive")[label] for label in reviews.labels]
    pairs = list(zip(reviews.texts, names, strict=True))
    begin = "".join(f"{lm.REVIEW_PROMPT.format(text)} {name}\n" for text, name in EXAMPLES)
    labels = [{"text": text, "label": name} for text, name in pairs]
    begin += lm.REVIEW_PROMPT
    completions = [{"prompt": begin.format(text), "completion": f" {name}"} for text, name in pairs]
    for file, rows in (("labels", labels), ("completions", completions)):
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{file}.jsonl").write_text(lines)


def main(argv: list[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m zojax.examples.export",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=pathlib.Path, help="where to write; about 540 MB")
    parser.add_argument("--examples", type=int, default=768, help="reviews in each file")
    args = parser.parse_args(argv)
    with _command.refusing(parser, "finetune", "safetensors"):
        if args.examples < 10:
            raise ValueError(f"--examples must be 10 at least, got {args.examples}.")
        args.folder.mkdir(parents=True, exist_ok=True)
        model, reviews = lm.smollm2(), lm.reviews().train
    lengths = [len(text) for text in reviews.texts]
    shortest = np.argsort(lengths, kind="stable")[: args.examples]
    lm.save(args.folder / "smollm2", model)
    write_tasks(args.folder, reviews.take(np.sort(shortest)))
    print(*sorted(args.folder.iterdir()), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
