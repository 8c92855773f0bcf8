"""Scores a model on a task without training: zero-shot, or after solved examples.

    python -m zojax.lm evaluate --weights FOLDER --task rte.jsonl --template rte
    python -m zojax.lm evaluate --weights FOLDER --task rte.jsonl --template rte --in-context 16
    python -m zojax.lm evaluate --weights FOLDER --adapter FOLDER --task task.jsonl

The rows and the splits are those of `python -m zojax.examples.finetune`, which trains on the same task.
"""

import argparse
import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from zojax.lm._adapters import combine
from zojax.lm.huggingface import load, load_adapter
from zojax.lm.tasks._jsonl_task import jsonl_task
from zojax.lm.tasks._prompt_task import prompt_task
from zojax.lm.tasks._task import Task

HELP = "score a model on a task: zero-shot or in-context"
DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    add = parser.add_argument
    add("--weights", required=True, metavar="FOLDER", help="a Hugging Face folder or a GGUF file")
    add("--adapter", metavar="FOLDER", help="a PEFT folder of LoRA or of a prefix, for --weights")
    add("--dtype", choices=tuple(DTYPES), default="float32", help="of the weights (float32)")
    add("--task", required=True, metavar="FILE", help="a JSONL, CSV, TSV or Parquet file")
    add("--template", metavar="NAME", help="the dataset of --task; `templates` lists the names")
    add("--held-out", metavar="FILE", help="a file of held-out rows, with --template")
    add("--in-context", type=int, default=0, metavar="N", help="solved rows before each (0)")
    add("--prompt", help="of a file of pairs, with {} for the text")
    add("--stop", help="the token that ends a completion")
    add("--split", choices=("held_out", "validation"), default="held_out", help="rows (held_out)")
    add("--seed", type=int, default=0, help="of the choice of solved rows (0)")
    add("--json", action="store_true", help="print a JSON object")


def run(args: argparse.Namespace) -> int:
    """Prints the scores of a split."""
    task = _task(args)
    params = combine(task.params, task.frozen)
    if args.adapter is not None:
        model = load_adapter(args.adapter, load(args.weights, DTYPES[args.dtype]), args.weights)
        params = model.params
    batches = task.split(args.split)
    outputs = jax.jit(lambda params, batch: task.outputs({"layers": {}}, params, batch))
    found = np.concatenate([outputs(params, batch) for batch in batches])
    labels = np.concatenate([batch["label"] for batch in batches])
    scores = task.scores(found, labels)
    if args.json:
        print(json.dumps({"rows": len(labels), **scores[""]}))
        return 0
    name = f"{args.in_context} in context" if args.in_context else "zero-shot"
    print(f"{args.split.replace('_', '-')}: {len(labels)} rows")
    for suffix, row in scores.items():
        cells = [f"{k} {v:.4f}" if k == "NLL" else f"{k} {v:.1%}" for k, v in row.items()]
        print(f"{suffix or name}: {', '.join(cells)}")
    return 0


def _task(args: argparse.Namespace) -> Task:
    options: dict[str, Any] = dict(seed=args.seed, dtype=DTYPES[args.dtype], stop=args.stop)
    files = args.weights, args.task
    if args.template is None:
        for name in ("held_out", "in_context"):
            if getattr(args, name):
                raise ValueError(f"--{name.replace('_', '-')} is for --template, which is missing.")
        return jsonl_task(*files, "norms", prompt=args.prompt, **options)
    if args.prompt is not None:
        raise ValueError(f"--template {args.template} has a prompt; leave out --prompt.")
    options |= dict(held_out=args.held_out, in_context=args.in_context)
    return prompt_task(*files, args.template, "norms", **options)
