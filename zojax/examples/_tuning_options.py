"""The command line of `zojax.examples.tuning`."""

import argparse

from zojax.examples import _command, _trainings


def make_parser() -> argparse.ArgumentParser:
    """The command line's arguments."""
    about = "Tune a network's hyper-parameters within a budget of trainings."
    parser = _command.make_parser("tuning", about)
    add = parser.add_argument
    add("--data", nargs="+", choices=_trainings.DATA, default=_trainings.DATA, help="tables")
    add("--budget", type=int, default=200, help="trainings for each way of tuning")
    add("--start", type=int, default=16, help="random candidates that the search begins with")
    add("--runs", type=int, default=2, help="searches side by side, which share the budget")
    add("--finalists", type=int, default=5, help="candidates that are trained again")
    add("--seeds", type=int, default=4, help="fresh trainings of each finalist")
    add("--steps", type=int, default=300, help="of a training")
    add("--seed", type=int, default=0, help="of everything")
    return parser


def settle(args: argparse.Namespace) -> argparse.Namespace:
    """Raises ValueError for arguments that do not fit together; returns them."""
    _command.require_positive(args, start=16, runs=2, finalists=5, seeds=4, steps=300)
    least = args.start + args.finalists * args.seeds + args.runs
    if args.budget < least:
        parts = "start + finalists * seeds + runs"
        raise ValueError(f"--budget must be at least {least}, {parts}, got {args.budget}.")
    _command.require_seed(args)
    return args
