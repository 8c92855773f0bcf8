"""The settings of `zojax.examples.finetune`: arguments that fit together, and the note of a run."""

import argparse
import pathlib
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from zojax import lm, logging, trajectory
from zojax.examples import _command
from zojax.examples._finetune_options import ACCURACY_DEFAULTS, DEFAULTS, OF_BLOCKS
from zojax.lm.assets import sha256_of


def settle(args: argparse.Namespace) -> argparse.Namespace:
    """Fills in the defaults that depend on other arguments; raises ValueError for misfits."""
    if args.log is not None and args.checkpoint is not None:
        raise ValueError("--log and --checkpoint both continue a run; give one of them.")
    if (args.weights is None) != (args.task is None):
        raise ValueError("--weights and --task go together; give both or neither.")
    if args.weights is not None:
        if args.data is not None:
            raise ValueError(f"--data {args.data} does not go with --weights, which has --task.")
        args.data, args.params = "jsonl", args.params or "norms"
    elif args.dtype != "float32":
        raise ValueError(f"--dtype {args.dtype} is for --weights, which was not given.")
    _require_partner(args, "weights", "stop", "prompt", "template", "save", "save_adapter")
    _require_partner(args, "template", "held_out", "shots")
    if args.template is not None and args.template not in lm.templates.TEMPLATES:
        known = ", ".join(lm.templates.TEMPLATES)
        raise ValueError(f"--template must be one of {known}, got {args.template}.")
    if args.template is not None and args.prompt is not None:
        raise ValueError(f"--template {args.template} has a prompt; leave out --prompt.")
    _check_saving(args)
    if not 0 <= args.seed < 2**31:
        raise ValueError(f"--seed must be from 0 to {2**31 - 1}, got {args.seed}.")
    args.data = args.data or "reviews"
    args.params = args.params or ("shifts" if args.data == "reviews" else "full")
    if (args.data, args.params) not in DEFAULTS:
        fitting = ", ".join(params for data, params in DEFAULTS if data == args.data)
        task = "--weights" if args.data == "jsonl" else f"--data {args.data}"
        raise ValueError(f"--params {args.params} does not fit {task}; it takes {fitting}.")
    own = OF_BLOCKS.get(args.params)
    args.optimizer = args.optimizer or own or "mezo"
    if (args.optimizer in OF_BLOCKS.values() or own) and args.optimizer != own:
        pairs = ", ".join(f"{o} with --params {p}" for p, o in OF_BLOCKS.items())
        misfit = f"--optimizer {args.optimizer} does not fit --params {args.params}"
        raise ValueError(f"{misfit}; there are {pairs}.")
    defaults = DEFAULTS | ACCURACY_DEFAULTS if args.objective == "accuracy" else DEFAULTS
    _command.fill(args, defaults[args.data, args.params])
    note, steps = _noted(args)
    if steps > args.steps:
        raise ValueError(
            f"{args.log or args.checkpoint} has {steps} steps already, got --steps {args.steps}; "
            "give more to extend the run."
        )
    if args.horizon is None:
        args.horizon = note.get("horizon", args.steps)
    for name in ("horizon", "shots", "evaluate_every"):
        if getattr(args, name) is not None:
            _command.require_positive(args, **{name: 100})
    return args


def _require_partner(args: argparse.Namespace, partner: str, *names: str) -> None:
    """Raises ValueError for options that need another one."""
    for name in names:
        given, option = getattr(args, name), name.replace("_", "-")
        if given is not None and getattr(args, partner) is None:
            raise ValueError(f"--{option} {given!r} is for --{partner}, which was not given.")


def _noted(args: argparse.Namespace) -> tuple[dict[str, Any], int]:
    """The note and the steps of the run that is continued; empty and 0 for a new run."""
    note, steps = None, 0
    if args.checkpoint is not None:
        note, steps = lm.checkpoint_note(args.checkpoint)
    elif args.log is not None:
        note, steps = trajectory.note_of(args.log)
    return note if isinstance(note, dict) else {}, steps


def option_of(name: str) -> str:
    """The option of an entry in the note."""
    return name if "--" in name else f"--{name.replace('_', '-')}"


def check_checkpoint(path: str, note: dict[str, object]) -> None:
    """Raises ValueError for the checkpoint of another run, before anything is trained."""
    then = lm.checkpoint_note(path)[0] or {}
    for name, value in note.items():
        if then.get(name, value) != value:
            raise ValueError(
                f"{path} is of another run: its {option_of(name)} is {then[name]!r}, not {value!r}. "
                "Choose another path, or continue with the value of that run."
            )


def make_callback(
    args: argparse.Namespace, note: dict[str, object], opened: ExitStack
) -> Callable | None:
    """The loggers of the command line as one callback; None without any."""
    made: dict[str, Callable[[], logging.Logger]] = {
        "csv": lambda: logging.csv(args.csv),
        "tensorboard": lambda: logging.tensorboard(args.tensorboard),
        "wandb": lambda: logging.wandb(project=args.wandb, config=note),
    }
    loggers = [opened.enter_context(make()) for name, make in made.items() if getattr(args, name)]
    return logging.both(*loggers) if loggers else None


def _check_saving(args: argparse.Namespace) -> None:
    """Raises ValueError for a folder that cannot be written, or parameters that it cannot hold."""
    if args.save_adapter is not None and args.params not in ("lora", "prefix"):
        wanted = "lora or prefix"
        raise ValueError(f"--save-adapter is for --params {wanted}, got {args.params}; use --save.")
    if args.save is not None and args.params == "prefix":
        raise ValueError("--save cannot merge a prefix into the weights; use --save-adapter.")
    for name in ("save", "save_adapter"):
        folder = getattr(args, name) and pathlib.Path(getattr(args, name)).expanduser()
        if folder and folder.resolve() == pathlib.Path(args.weights).expanduser().resolve():
            option = name.replace("_", "-")
            raise ValueError(f"--{option} {folder} is --weights; choose another folder.")
        if folder:
            folder.mkdir(parents=True, exist_ok=True)


def note_of(args: argparse.Namespace) -> dict[str, object]:
    """The note of a log: a run that continues it must have the same arguments and files."""
    names = """data weights task template shots prompt stop params rank alpha targets positions objective
    batch seed optimizer direction learning_rate schedule horizon mu metrics num_directions"""
    note = {name: getattr(args, name) for name in names.split()}
    is_kept = args.log is not None or args.checkpoint is not None
    if is_kept and args.task is not None:
        note["digest of --task"] = _digest(args.task)
    if is_kept and args.weights is not None:  # frozen weights too
        path = pathlib.Path(args.weights).expanduser()
        files = [path] if path.is_file() else sorted(path.glob("*.safetensors"))
        note["digest of --weights"] = " ".join(map(_digest, files))
    return note


def _digest(path) -> str:
    """32 hexadecimal digits of a file's bytes."""
    return sha256_of(pathlib.Path(path).expanduser())[:32]
