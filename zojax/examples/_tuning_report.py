"""The report of `zojax.examples.tuning`: a table, the chosen points, and losses against trainings."""

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from zojax.examples import _plots
from zojax.examples._tables import table
from zojax.examples._trainings import ACTIVATIONS, Losses

JUDGED = 32  # fresh trainings behind every reported figure
# Color and width of a curve. Both searches begin alike, so the wider curve shows beneath.
LOOKS = {"untuned": ("0.4", 1), "random search": ("#6aaed6", 3.5), "zojax.search": ("C3", 1.5)}


class Tuned(NamedTuple):
    """The outcome of a budget of trainings."""

    point: dict  # the chosen hyper-parameters
    values: np.ndarray  # validation losses in order, of the best run; inf for a failed training
    failures: int  # trainings of all runs that were not finite
    trainings: int  # of all runs


class Comparison(NamedTuple):
    """One way of tuning on one table."""

    data: str  # name of the table
    method: str  # name of the way of tuning
    tuned: Tuned  # its outcome
    losses: Losses  # of the chosen point with fresh seeds
    seconds: float  # of tuning


def describe(comparisons: Sequence[Comparison]) -> str:
    """The closing report."""
    points = [f"{c.data}, {c.method}: {_point(c.tuned.point)}" for c in comparisons]
    return (
        f"\nMean negative log-likelihood; validation, test and error are means of {JUDGED} trainings with "
        "fresh seeds\n(+- standard deviation of one), test rows were used for nothing else.\n\n"
        + "\n".join([report(comparisons), *points])
    )


def report(comparisons: Sequence[Comparison]) -> str:
    """The comparisons as a table of text."""
    head = ("data", "hyper-parameters", "trainings", "failed", "least seen", "validation", "test")
    rows: list[tuple] = [(*head, "error", "s")]
    for c in comparisons:
        tuned, losses = c.tuned, c.losses
        least = f"{tuned.values.min():.4f}" if len(tuned.values) else "-"
        validation = f"{np.mean(losses.validation):.4f} +- {np.std(losses.validation):.4f}"
        test = f"{np.mean(losses.test):.4f}", f"{np.mean(losses.error):.2%}"
        counts = tuned.trainings, tuned.failures
        rows.append((c.data, c.method, *counts, least, validation, *test, f"{c.seconds:.1f}"))
    return table((-14, -18, 9, 7, 11, 17, 8, 8, 7), rows)


def _point(point: dict) -> str:
    """A point in words."""
    depth = int(point["depth"])
    return (
        f"{' x '.join(str(int(w)) for w in point['widths'][:depth])} units, "
        f"{list(ACTIVATIONS)[int(point['activation'])]}, "
        f"learning rate {float(point['learning_rate']):.2g}, "
        f"weight decay {float(point['weight_decay']):.2g}, dropout {float(point['dropout']):.2g}"
    )


def plot(path: str | PathLike, comparisons: Sequence[Comparison]) -> Path:
    """Draws all values and the least so far against trainings; returns the absolute path.

    Dashed lines are the chosen points' losses with fresh seeds. Failed trainings stand at the top.
    """
    names = list(dict.fromkeys(c.data for c in comparisons))
    figure, axes = _plots.panels(names, 4.6)
    for axis, name in zip(axes, names, strict=True):
        here = [c for c in comparisons if c.data == name]
        low, high = _limits(here)
        for c in here:
            _curve(axis, c, high)
        axis.set(xlabel="trainings", ylabel="validation loss", yscale="log")
        axis.set(xlim=(0, None), ylim=(low, high))
        axis.legend(frameon=False, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.14))
    return _plots.save_figure(figure, path)


def _curve(axis: Any, c: Comparison, high: float) -> None:
    values, fresh = c.tuned.values, float(np.mean(c.losses.validation))
    color, width = LOOKS[c.method]
    count, shown = np.arange(1, len(values) + 1), np.minimum(values, high)
    if len(values):
        axis.plot(count, shown, ".", ms=4, alpha=0.5, color=color, clip_on=False)
        axis.step(count, np.minimum.accumulate(shown), where="post", color=color, lw=width)
    label = f"{c.method}: {fresh:.3f} on fresh seeds"
    axis.axhline(fresh, ls="--", lw=1, color=color, label=label)


def _limits(comparisons: Sequence[Comparison]) -> tuple[float, float]:
    """The range of losses that a panel shows: all but the worst quarter of the finite values."""
    fresh = [float(np.mean(c.losses.validation)) for c in comparisons]
    values = np.concatenate([c.tuned.values for c in comparisons])
    values = values[np.isfinite(values)]
    known = np.array([f for f in fresh if np.isfinite(f)])
    most = np.append(known, np.quantile(values, 0.75) if len(values) else [])
    least = np.append(known, values)
    return (max(1e-6, 0.8 * least.min()), 1.2 * most.max()) if len(least) else (0.1, 10.0)
