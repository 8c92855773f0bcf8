"""The command line of `zojax.examples.federated`: its arguments, their defaults and checks."""

import argparse

from zojax.examples import _command

OPTIONS = {  # all of them positive
    "clients": (10, "who hold the examples"),
    "sampled": (5, "clients in a round"),
    "rounds": (200, "of training"),
    "local_steps": (5, "steps of a client in a round"),
    "batch": (32, "examples in a step of a client"),
    "num_directions": (16, "directions in a step"),
    "learning_rate": (0.1, "of every step"),
    "mu": (0.01, "size of the perturbation"),
}


def make_parser() -> argparse.ArgumentParser:
    """The command line's arguments."""
    about = "Federated learning by scalars, beside one process with all the data."
    parser = _command.make_parser("federated", about, draws=False)
    add = parser.add_argument
    for name, (default, text) in OPTIONS.items():
        add(f"--{name.replace('_', '-')}", type=type(default), default=default, help=text)
    add("--pool", type=int, default=0, help="number of seeds; 0 for a new one in each step")
    add("--seed", type=int, default=0, help="of weights, batches and directions")
    return parser


def settle(args: argparse.Namespace) -> None:
    """Raises ValueError for misfits."""
    _command.require_seed(args)
    _command.require_positive(args, **{name: default for name, (default, _) in OPTIONS.items()})
    if args.sampled > args.clients:
        raise ValueError(f"--sampled must be at most --clients {args.clients}, got {args.sampled}.")
    if args.pool < 0 or args.pool % args.local_steps:
        wanted = 20 * args.local_steps
        steps = "a multiple of --local-steps"
        raise ValueError(f"--pool must be {steps}, got {args.pool}; try {wanted}.")
