"""Trains control policies from returns alone: `python -m zojax.examples.policy`.

A population of policies plays episodes of a gymnax environment, all in one compiled program; their returns
are the only feedback. `open_es` is tried with dense and with low-rank directions, `ars` with its top
directions, each with several seeds; a PNG shows the learning curves and an episode of the best policy.
"""

import argparse
import math
import sys
import time
from functools import partial
from typing import NamedTuple

import jax
import numpy as np
import optax

import zojax
from zojax import directions
from zojax.examples import _control, _report

__all__ = ["Run", "main", "make_parser", "make_training", "train"]

METHODS = ("open_es", "open_es, low rank", "ars")


class Setting(NamedTuple):
    """Defaults that depend on the environment."""

    generations: int
    population: int
    episodes: int
    learning_rate: float
    ars_rate: float
    mu: float


SETTINGS = {
    "cartpole": Setting(40, 128, 4, 0.05, 0.1, 0.2),
    "pendulum": Setting(200, 256, 4, 0.03, 0.06, 0.1),
    "acrobot": Setting(60, 128, 4, 0.05, 0.1, 0.2),
    "mountaincar": Setting(60, 128, 4, 0.05, 0.1, 0.5),
    "breakout": Setting(100, 256, 2, 0.01, 0.06, 0.1),
}
SOLVED = {"cartpole": 475.0}  # mean return at which the environment's authors call it solved


class Run(NamedTuple):
    """One training run.

    Attributes:
      method: a member of `METHODS`.
      params: the trained policy.
      statistics: of the observations it met.
      curve: `(generations, 2)`: environment steps so far, mean return of the population.
      returns: `(100,)`, of fresh episodes of the trained policy.
      seconds: wall time of training, compilation aside.
    """

    method: str
    params: object
    statistics: object
    curve: np.ndarray
    returns: np.ndarray
    seconds: float


def make_parser():
    """The command line's arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m zojax.examples.policy",
        description="Train policies with evolution strategies and augmented random search.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        epilog="Settings shown as None have defaults that depend on --env.",
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
    add("--out", default="zojax-policy.png", help="where the PNG goes")
    return parser


def settle(args):
    """Fills in the defaults that depend on the environment."""
    for name, default in SETTINGS[args.env]._asdict().items():
        if getattr(args, name) is None:
            setattr(args, name, default)
    for name in ("seeds", *Setting._fields):
        if not 0 < getattr(args, name) < math.inf:
            option = name.replace("_", "-")
            raise ValueError(f"--{option} must be positive, got {getattr(args, name)}.")
    if min(args.hidden, default=1) < 1:
        raise ValueError(f"--hidden must be positive numbers of units, got {args.hidden}.")
    if args.population % 2:
        raise ValueError(f"--population must be even, got {args.population}.")
    return args


def make_optimizer(method, args):
    """The optimizer that a method names."""
    if method == "ars":
        return zojax.ars(args.ars_rate, args.mu, num_directions=args.population // 2)
    direction = directions.low_rank() if "low rank" in method else directions.normal()
    return zojax.open_es(args.learning_rate, args.mu, args.population, 0.0, direction)


def make_training(task, tx, episodes):
    """One generation, and a compiled run of several.

    Args:
      task: a `zojax.examples._control.Task`.
      tx: a zojax optimizer.
      episodes: of each policy in a generation.

    Returns:
      `(carry, keys) -> (carry, (mean returns, steps))` for carry `(params, state, statistics)`.
    """

    def generation(carry, key):
        params, state, statistics = carry
        asked = jax.random.fold_in(state.rng_key, state.count)
        policies, _ = tx.estimator.ask(asked, params, step=state.count)
        # The same episodes for all: differences are then between policies.
        played = jax.vmap(lambda p: task.play(p, statistics, key, episodes))(policies)
        returns = played.returns.mean(axis=1)
        updates, state = tx.update(None, state, params, values=-returns)
        new = jax.tree.map(lambda leaf: leaf.sum(axis=0), played.statistics)
        carry = optax.apply_updates(params, updates), state, _control.merge(statistics, new)
        return carry, (returns.mean(), played.lengths.sum())

    return jax.jit(partial(jax.lax.scan, generation))


def train(task, method, args, bar):
    """All seeds of one method; they share one compiled program.

    Args:
      task: a `zojax.examples._control.Task`.
      method: a member of `METHODS`.
      args: the command line's arguments.
      bar: has `update(generations)` and `set_postfix(...)`, such as `tqdm`.

    Returns:
      `(runs, compile_seconds)`.
    """
    tx = make_optimizer(method, args)
    chunk = next(n for n in range(min(10, args.generations), 0, -1) if args.generations % n == 0)

    def start(seed):
        params = task.init(jax.random.key(seed))
        state = tx.init(params)._replace(rng_key=jax.random.key(seed))
        return params, state, _control.no_statistics(task.size)

    began = time.perf_counter()
    keys = jax.random.split(jax.random.key(0), chunk)
    run = make_training(task, tx, args.episodes).lower(start(0), keys).compile()
    play = jax.jit(partial(task.play, episodes=100)).lower(*start(0)[::2], keys[0]).compile()
    compile_seconds = time.perf_counter() - began
    runs = []
    for seed in range(args.seeds):
        began, carry, returns, steps = time.perf_counter(), start(seed), [], []
        keys = jax.random.split(jax.random.fold_in(jax.random.key(seed), 1), args.generations)
        for part in keys.reshape(-1, chunk):
            carry, (found, taken) = run(carry, part)
            returns.extend(np.asarray(found))
            steps.extend(np.asarray(taken))
            bar.update(chunk)
            bar.set_postfix(method=method, seed=seed, mean=f"{returns[-1]:.1f}")
        seconds = time.perf_counter() - began
        params, _, statistics = carry
        fresh = play(params, statistics, jax.random.fold_in(jax.random.key(seed), 2))
        curve = np.stack([np.cumsum(steps, dtype=np.float64), returns], axis=1)
        runs.append(Run(method, params, statistics, curve, np.asarray(fresh.returns), seconds))
    return runs, compile_seconds


def table(trained):
    """What each method reached over its seeds, as text."""
    lines = [
        f"{'method':18} {'mean return of each seed':>30} {'steps':>9} {'steps/s':>9} {'s':>5} "
        f"{'compile':>8}"
    ]
    for runs, compile_seconds in trained:
        means = " ".join(f"{r.returns.mean():9.1f}" for r in runs)
        steps = sum(r.curve[-1, 0] for r in runs)
        seconds = sum(r.seconds for r in runs)
        lines.append(
            f"{runs[0].method:18} {means:>30} {steps:9.2e} {steps / seconds:9.2e} "
            f"{seconds / len(runs):5.1f} {compile_seconds:6.1f} s"
        )
    return "\n".join(lines)


def draw(path, name, task, trained):
    """Learning curves, one line a seed, above frames of the best policy.

    Args:
      path: where the PNG goes.
      name: of the environment.
      task: its `zojax.examples._control.Task`.
      trained: a list of lists of `Run`.

    Returns:
      The absolute path.
    """
    from matplotlib.figure import Figure  # without pyplot, which may want a display
    from matplotlib.ticker import EngFormatter

    figure = Figure(figsize=(9, 5), layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=(3.5, 1.5))
    axis = top.subplots()
    for color, runs in enumerate(trained):
        for k, r in enumerate(runs):
            label = r.method if k == 0 else None
            axis.plot(*r.curve.T, color=f"C{color}", alpha=0.8, linewidth=1.3, label=label)
    if name in SOLVED:
        axis.axhline(SOLVED[name], color="0.6", linewidth=1, linestyle=":", label="solved")
    axis.set(xlabel="environment steps", ylabel="mean return of the population")
    axis.xaxis.set_major_formatter(EngFormatter(sep=""))
    axis.set_title(_control.ENVIRONMENTS[name], fontsize=11)
    axis.grid(color="0.92")
    axis.legend(frameon=False)
    axis.spines[["top", "right"]].set_visible(False)
    best = max((r for runs in trained for r in runs), key=lambda r: r.returns.mean())
    axes = bottom.subplots(1, 8)
    _control.frames(name, task, best.params, best.statistics, jax.random.key(9), axes)
    bottom.suptitle(f"{best.method}: one episode of the trained policy", fontsize=10)
    return _report.save_figure(figure, path, dpi=130)


def main(argv=None):
    """Runs the command line; returns the exit status."""
    start = time.perf_counter()
    parser = make_parser()
    args = parser.parse_args(argv)
    with _report.refusing(parser, "matplotlib"):
        _report.require_picture(args.out)
        from tqdm import tqdm

        args = settle(args)
        task = _control.make(args.env, tuple(args.hidden))
    total = len(args.methods) * args.seeds * args.generations
    with tqdm(total=total, unit="generation", file=sys.stderr) as bar:
        trained = [train(task, method, args, bar) for method in args.methods]
    count = sum(leaf.size for leaf in jax.tree.leaves(trained[0][0][0].params))
    print(
        f"{_control.ENVIRONMENTS[args.env]}: {count:,} parameters, {args.generations} generations of "
        f"{args.population} policies x {args.episodes} episodes, {args.seeds} seeds\n"
        "mean return over 100 fresh episodes of the trained policy; s is the time of one run\n"
    )
    print(table(trained))
    path = draw(args.out, args.env, task, [runs for runs, _ in trained])
    print(f"\ntotal time {time.perf_counter() - start:.0f} s; picture: {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
