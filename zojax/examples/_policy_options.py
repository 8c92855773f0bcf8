"""The command line of `zojax.examples.policy`: its arguments, their defaults and checks."""

import argparse
from typing import NamedTuple

from zojax.examples import _command, _control

METHODS = ("open_es", "open_es, low rank", "ars")


class PopulationDefaults(NamedTuple):
    """Defaults that depend on the environment."""

    generations: int
    population: int
    episodes: int
    learning_rate: float
    ars_rate: float
    mu: float


DEFAULTS = {
    "cartpole": PopulationDefaults(40, 128, 4, 0.05, 0.1, 0.2),
    "pendulum": PopulationDefaults(200, 256, 4, 0.03, 0.06, 0.1),
    "acrobot": PopulationDefaults(60, 128, 4, 0.05, 0.1, 0.2),
    "mountaincar": PopulationDefaults(60, 128, 4, 0.05, 0.1, 0.5),
    "breakout": PopulationDefaults(100, 256, 2, 0.01, 0.06, 0.1),
}


def make_parser() -> argparse.ArgumentParser:
    """The command line's arguments."""
    parser = _command.make_parser(
        "policy",
        "Train policies with evolution strategies and augmented random search.",
        "Settings shown as None have defaults that depend on --env.",
    )
    add = parser.add_argument
    add("--env", choices=tuple(_control.ENVIRONMENTS), default="cartpole", help="what to control")
    add("--methods", nargs="+", choices=METHODS, default=list(METHODS), help="how to train")
    add("--seeds", type=int, default=3, help="runs of each method")
    add("--generations", type=int, help="training steps")
    add("--population", type=int, help="policies in a generation; even")
    add("--episodes", type=int, help="episodes of each policy in a generation")
    add("--learning-rate", type=float, help="of Adam, for open_es")
    add("--ars-rate", type=float, help="learning rate of ars")
    add("--mu", type=float, help="standard deviation of the population")
    add("--hidden", type=int, nargs="+", default=[32, 32], help="widths of the policy's layers")
    return parser


def settle(args: argparse.Namespace) -> argparse.Namespace:
    """Fills in the defaults that depend on the environment; raises ValueError for misfits."""
    _command.require_positive(args, "seeds", 3)
    _command.fill(args, DEFAULTS[args.env])
    if min(args.hidden, default=1) < 1:
        raise ValueError(f"--hidden must be positive numbers of units, got {args.hidden}.")
    if args.population % 2:
        raise ValueError(f"--population must be even, got {args.population}.")
    return args
