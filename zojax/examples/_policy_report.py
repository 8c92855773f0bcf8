"""The report of `zojax.examples.policy`: a table, learning curves and an episode."""

import argparse
from functools import partial
from os import PathLike
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from zojax import rollouts
from zojax.examples import _plots
from zojax.examples._control import ENVIRONMENTS, Control
from zojax.examples._frames import frames
from zojax.examples._tables import table

SOLVED = {"cartpole": 475.0}  # mean return at which the environment's authors call it solved


class TrainedPolicy(NamedTuple):
    """One seed of one method."""

    method: str
    carry: rollouts.Carry  # parameters, optimizer state and observation statistics after training
    curve: np.ndarray  # `(generations, 2)`: environment steps so far, mean return of the population
    returns: np.ndarray  # `(100,)`, of fresh episodes of the trained policy
    seconds: float  # wall time of training, without compilation


def describe(args: argparse.Namespace, trained: list[tuple[list[TrainedPolicy], float]]) -> str:
    """The results of each method over its seeds."""
    count = sum(leaf.size for leaf in jax.tree.leaves(trained[0][0][0].carry.params))
    rows = [("method", "mean return of each seed", "steps", "steps/s", "s", "compile")]
    for runs, compile_seconds in trained:
        steps, seconds = sum(r.curve[-1, 0] for r in runs), sum(r.seconds for r in runs)
        means = " ".join(f"{r.returns.mean():9.1f}" for r in runs)
        speed = f"{steps:.2e}", f"{steps / seconds:.2e}", f"{seconds / len(runs):.1f}"
        rows.append((runs[0].method, means, *speed, f"{compile_seconds:.1f} s"))
    return (
        f"{ENVIRONMENTS[args.env]}: {count:,} parameters, {args.generations} generations of "
        f"{args.population} policies x {args.episodes} episodes, {args.seeds} seeds\n"
        "mean return over 100 fresh episodes of the trained policy; s is the time of one run\n\n"
        + table((-18, 31, 10, 10, 6, 9), rows)
    )


def draw(
    path: str | PathLike, name: str, control: Control, trained: list[list[TrainedPolicy]]
) -> Path:
    """Draws learning curves, one line a seed, above frames of the best policy; returns the path."""
    from matplotlib.ticker import EngFormatter

    figure = _plots.make_figure(9, 5)
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
    axis.set_title(ENVIRONMENTS[name], fontsize=11)
    axis.grid(color="0.92")
    axis.legend(frameon=False)
    best = max((r for runs in trained for r in runs), key=lambda r: r.returns.mean())
    watch = partial(rollouts.watch, control.environment, control.act, steps=control.steps)
    params, _, met = best.carry
    states, alive = jax.jit(watch)(params, met, jax.random.key(9))
    frames(name, states, alive, bottom.subplots(1, 8))
    bottom.suptitle(f"{best.method}: one episode of the trained policy", fontsize=10)
    return _plots.save_figure(figure, path, dpi=130)
