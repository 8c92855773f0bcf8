"""The command line of `zojax.examples.distributed`: its arguments, their defaults and checks."""

import argparse

from zojax.examples import _command, _finetune_options

PARAMS = {"digits": "full", "reviews": "shifts"}  # what to train


def make_parser() -> argparse.ArgumentParser:
    """The command line's arguments."""
    about = "Train in several processes that exchange one float for each evaluation."
    parser = _command.make_parser("distributed", about, draws=False)
    add = parser.add_argument
    add("--processes", type=int, default=2, help="how many")
    add("--data", choices=tuple(PARAMS), default="digits", help="what to learn")
    add("--split", choices=("data", "directions"), default="data", help="what processes divide")
    for name, kind in _finetune_options.StepDefaults.__annotations__.items():
        add(f"--{name.replace('_', '-')}", type=kind, help="as in zojax.examples.finetune")
    add("--seed", type=int, default=0, help="of directions, batches and initial weights")
    add("--log", help="record here, and continue a run that was cut off")
    add("--timeout", type=float, default=300.0, help="seconds to wait for another process")
    add("--kill", action=argparse.BooleanOptionalAction, default=True, help="kill one half-way")
    add("--coordinator", help="HOST:PORT of rank 0, or auto; without it, start all here")
    add("--rank", type=int, help="of this process; it goes with --coordinator")
    return parser


def settle(args: argparse.Namespace) -> None:
    """Fills in the defaults; raises ValueError for misfits."""
    _command.require_seed(args)
    _command.fill(args, _finetune_options.DEFAULTS[args.data, PARAMS[args.data]])
    _command.require_positive(args, processes=2, timeout=300.0)
    if args.split == "directions" and args.num_directions % args.processes:
        raise ValueError(
            f"--num-directions must be a multiple of --processes {args.processes}, got "
            f"{args.num_directions}; try {args.processes}."
        )
    if args.coordinator is not None and args.log is None:
        raise ValueError("--coordinator needs --log: process 0 records the run there.")
