"""Trains control policies from returns alone: `python -m zojax.examples.policy`.

A population of policies plays episodes of a gymnax environment, in one compiled program. Their returns are
the only feedback. `open_es` runs with dense and with low-rank directions, `ars` with its best directions,
each with several seeds. A PNG shows the learning curves and an episode of the best policy.
"""

import argparse
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

import zojax
from zojax import directions, rollouts
from zojax.examples import _command, _control, _policy_report

__all__ = ["main", "make_optimizer", "train"]

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
    _command.require_positive(args, seeds=3)
    _command.fill(args, DEFAULTS[args.env])
    if min(args.hidden, default=1) < 1:
        raise ValueError(f"--hidden must be positive numbers of units, got {args.hidden}.")
    if args.population % 2:
        raise ValueError(f"--population must be even, got {args.population}.")
    return args


def make_optimizer(method: str, args: argparse.Namespace) -> zojax.ZerothOrder:
    """The optimizer of a method."""
    if method == "ars":
        return zojax.ars(args.ars_rate, args.mu, num_directions=args.population // 2)
    direction = directions.low_rank() if "low rank" in method else directions.normal()
    return zojax.open_es(args.learning_rate, args.mu, args.population, 0.0, direction)


def train(
    control: _control.Control, method: str, args: argparse.Namespace, fresh: Callable, bar: Any
) -> tuple[list[_policy_report.TrainedPolicy], float]:
    """Trains all seeds of one method with one compiled program; returns them and the seconds to compile.

    `fresh(params, statistics, key)` plays the trained policy; `bar` is a `tqdm`.
    """
    tx, act = make_optimizer(method, args), control.act
    play = partial(rollouts.play, control.environment, act, episodes=args.episodes)
    generation = rollouts.make_generation(play, tx)
    chunk = next(n for n in range(min(10, args.generations), 0, -1) if args.generations % n == 0)

    def start(seed):
        params = control.init(jax.random.key(seed))
        state = tx.init(params)._replace(rng_key=jax.random.key(seed))
        return rollouts.Carry(params, state, rollouts.no_statistics(control.size))

    began = time.perf_counter()
    keys = jax.random.split(jax.random.key(0), chunk)
    run = jax.jit(partial(jax.lax.scan, generation)).lower(start(0), keys).compile()
    compile_seconds, trained = time.perf_counter() - began, []
    for seed in range(args.seeds):
        began, carry, parts = time.perf_counter(), start(seed), []
        keys = jax.random.split(jax.random.fold_in(jax.random.key(seed), 1), args.generations)
        for part in keys.reshape(-1, chunk):
            carry, (returns, steps) = run(carry, part)
            parts.append(np.stack([steps, returns], axis=1, dtype=np.float64))
            bar.update(chunk)
            bar.set_postfix(method=method, seed=seed, mean=f"{returns[-1]:.1f}")
        seconds, curve = time.perf_counter() - began, np.concatenate(parts)
        curve[:, 0] = np.cumsum(curve[:, 0])
        key = jax.random.fold_in(jax.random.key(seed), 2)
        returns = np.asarray(fresh(carry.params, carry.statistics, key).returns)
        trained.append(_policy_report.TrainedPolicy(method, carry, curve, returns, seconds))
    return trained, compile_seconds


def main(argv: list[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    start = time.perf_counter()
    parser = make_parser()
    args = parser.parse_args(argv)
    with _command.refusing(parser, "policies", "matplotlib", "tqdm"):
        _command.require_picture(args.out)
        settle(args)
        control = _control.make(args.env, tuple(args.hidden))
    from tqdm import tqdm

    total = len(args.methods) * args.seeds * args.generations
    fresh = jax.jit(partial(rollouts.play, control.environment, control.act, episodes=100))
    with tqdm(total=total, unit="generation", file=sys.stderr) as bar:
        trained = [train(control, method, args, fresh, bar) for method in args.methods]
    print(_policy_report.describe(args, trained))
    path = _policy_report.draw(args.out, args.env, control, [runs for runs, _ in trained])
    print(f"\ntotal time {time.perf_counter() - start:.0f} s; picture: {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
