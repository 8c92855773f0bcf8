"""The command line of `zojax.examples.finetune`: its arguments, their defaults and checks."""

import argparse
import hashlib
import pathlib
from typing import NamedTuple

import jax.numpy as jnp

import zojax
from zojax import lm
from zojax.examples import _command
from zojax.examples._digits import digits_task

TASKS = {"reviews": lm.reviews_task, "digits": digits_task}
PARAMS = ("shifts", "norms", "lora", "prefix", "full")
OPTIMIZERS = ("mezo", "zo_sgd", "spsa", "adam", "open_es")
OBJECTIVES = {"nll": "negative log-likelihood", "accuracy": "1 - accuracy", "f1": "1 - F1"}
DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16, "bf16": jnp.bfloat16}
DIRECTIONS = {
    "rademacher": zojax.directions.rademacher,
    "normal": zojax.directions.normal,
    "sphere": zojax.directions.sphere,
    "low_rank": zojax.directions.low_rank,
}


class StepDefaults(NamedTuple):
    """Defaults that depend on the task, the trained parameters and the objective."""

    steps: int
    batch: int
    learning_rate: float
    mu: float
    num_directions: int


DEFAULTS = {
    ("reviews", "shifts"): StepDefaults(500, 8, 1e-3, 1e-2, 1),
    ("reviews", "norms"): StepDefaults(600, 8, 1e-3, 1e-2, 1),
    ("reviews", "full"): StepDefaults(100, 16, 2e-5, 1e-3, 1),
    ("digits", "full"): StepDefaults(1000, 64, 1e-1, 1e-2, 16),
    ("jsonl", "norms"): StepDefaults(60, 16, 1e-3, 1e-2, 1),
    ("jsonl", "lora"): StepDefaults(100, 16, 1e-3, 1e-2, 1),
    ("jsonl", "prefix"): StepDefaults(100, 16, 1e-2, 1e-1, 1),
    ("jsonl", "full"): StepDefaults(100, 16, 1e-6, 1e-3, 1),
}
# Accuracy is a step function: it needs a wide perturbation and many examples.
ACCURACY_DEFAULTS = {
    ("reviews", "shifts"): StepDefaults(100, 32, 3e-3, 5e-2, 1),
    ("jsonl", "norms"): StepDefaults(60, 32, 3e-3, 5e-2, 1),
}


def make_parser() -> argparse.ArgumentParser:
    """The command line's arguments."""
    parser = _command.make_parser(
        "finetune",
        "Fine-tune a model with forward passes only, and compare it with zero-shot.",
        "Settings shown as None depend on --data, --params and --objective. "
        "Exit status: 0; 1 if the run diverged; 2 if arguments or files do not fit.",
    )
    add = parser.add_argument
    add("--data", choices=tuple(TASKS), help="what to learn; reviews, unless --weights is given")
    add("--weights", help="a local Hugging Face folder or GGUF file; needs --task")
    add("--task", help="a JSONL file of text and label, or of prompt and completion")
    add("--prompt", help="of --task, with {} for the text")
    add("--stop", help="what ends a completion, one token; by default the model's end of text")
    lossy = "of --weights; with --params full bf16 rounds small updates away"
    add("--dtype", choices=tuple(DTYPES), default="float32", help=lossy)
    add("--params", choices=PARAMS, help="what to train; lora and prefix need --weights")
    add("--objective", choices=tuple(OBJECTIVES), default="nll", help="what to improve")
    add("--optimizer", choices=OPTIMIZERS, default="mezo", help="how to step")
    add("--direction", choices=tuple(DIRECTIONS), default="rademacher", help="which way to perturb")
    add("--steps", type=int, help="number of training steps")
    add("--batch", type=int, help="examples in a batch")
    add("--learning-rate", type=float, help="first learning rate of a cosine decay to zero")
    add("--mu", type=float, help="size of the perturbation")
    add("--num-directions", type=int, help="directions a step; open_es evaluates twice as many")
    add("--seed", type=int, default=0, help="of directions, batches and initial weights")
    add("--evaluate-on", choices=("held_out", "validation"), default="held_out", help="the split")
    add("--log", help="record every step here, and continue a run that was cut off")
    add("--save", help="write the trained --weights to this folder; adapters are merged")
    add("--save-adapter", help="write the trained lora or prefix to this folder, as PEFT does")
    return parser


def settle(args: argparse.Namespace) -> argparse.Namespace:
    """Fills in the defaults that depend on other arguments; raises ValueError for misfits."""
    if (args.weights is None) != (args.task is None):
        raise ValueError("--weights and --task go together; give both or neither.")
    if args.weights is not None:
        if args.data is not None:
            raise ValueError(f"--data {args.data} does not go with --weights, which has --task.")
        args.data, args.params = "jsonl", args.params or "norms"
    elif args.dtype != "float32":
        raise ValueError(f"--dtype {args.dtype} is for --weights, which was not given.")
    for name in ("stop", "prompt", "save", "save_adapter"):
        if args.weights is None and getattr(args, name) is not None:
            given, option = getattr(args, name), name.replace("_", "-")
            raise ValueError(f"--{option} {given!r} is for --weights, which was not given.")
    _check_saving(args)
    if not 0 <= args.seed < 2**31:
        raise ValueError(f"--seed must be from 0 to {2**31 - 1}, got {args.seed}.")
    args.data = args.data or "reviews"
    args.params = args.params or ("shifts" if args.data == "reviews" else "full")
    if (args.data, args.params) not in DEFAULTS:
        fitting = ", ".join(params for data, params in DEFAULTS if data == args.data)
        task = "--weights" if args.data == "jsonl" else f"--data {args.data}"
        raise ValueError(f"--params {args.params} does not fit {task}; it takes {fitting}.")
    defaults = DEFAULTS | ACCURACY_DEFAULTS if args.objective == "accuracy" else DEFAULTS
    _command.fill(args, defaults[args.data, args.params])
    return args


def _check_saving(args: argparse.Namespace) -> None:
    """Raises ValueError for a folder that cannot be written, or parameters that it cannot hold."""
    if args.save_adapter is not None and args.params not in ("lora", "prefix"):
        raise ValueError(
            f"--save-adapter is for --params lora or prefix, got {args.params}; use --save."
        )
    if args.save is not None and args.params == "prefix":
        raise ValueError("--save cannot merge a prefix into the weights; use --save-adapter.")
    for name in ("save", "save_adapter"):
        folder = getattr(args, name) and pathlib.Path(getattr(args, name)).expanduser()
        if folder and folder.resolve() == pathlib.Path(args.weights).expanduser().resolve():
            raise ValueError(
                f"--{name.replace('_', '-')} {folder} is --weights; choose another folder."
            )
        if folder:
            folder.mkdir(parents=True, exist_ok=True)


def note_of(args: argparse.Namespace) -> dict[str, object]:
    """The note of a log: a run that continues it must have the same arguments and files."""
    of_task = ("data", "weights", "task", "prompt", "stop", "params", "objective", "batch", "seed")
    of_steps = ("optimizer", "direction", "steps", "learning_rate", "mu", "num_directions")
    note = {name: getattr(args, name) for name in (*of_task, *of_steps)}
    if args.log is not None and args.task is not None:
        note["digest of --task"] = _digest(args.task)
    if args.log is not None and args.weights is not None:  # frozen weights too
        path = pathlib.Path(args.weights).expanduser()
        files = [path] if path.is_file() else sorted(path.glob("*.safetensors"))
        note["digest of --weights"] = " ".join(map(_digest, files))
    return note


def _digest(path) -> str:
    """32 hexadecimal digits of a file's bytes."""
    with open(pathlib.Path(path).expanduser(), "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:32]
