"""The report of `zojax.examples.attack`: a table, changed digits, and success against queries."""

from collections.abc import Callable, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from zojax import attacks
from zojax.examples import _plots
from zojax.examples._tables import table

COLUMNS = 8  # digits of the picture


class Attacked(NamedTuple):
    """One attack on all images."""

    name: str
    norm: str  # "linf" or "l2"
    eps: float  # radius of its ball
    result: attacks.Result
    seconds: float  # wall time without compilation
    compile_seconds: float  # wall time of the compilation


def describe(attacked: Sequence[Attacked]) -> str:
    """Success and cost. Unsolved images spend the budget: queries are averaged with and without them."""
    above = table((-18, 33, 9, 9), [("", "queries of solved", "queries", "norm of")])
    head = ("attack", "eps", "success", "mean", "median", "of all", "solved", "images/s", "compile")
    rows = table((-18, 6, 9, 10, 8, 9, 9, 10, 9), [head, *map(_row, attacked)])
    problems = [f"{r.name}: {m}" for r in attacked for m in r.result.problems()]
    return "\n".join([above, rows, *problems])


def _row(r: Attacked) -> tuple[str, ...]:
    won = np.asarray(r.result.success)
    queries, norms = np.asarray(r.result.queries), np.asarray(r.result.norms)
    mean = median = norm = "---"
    if won.any():
        solved = queries[won]
        mean, median = f"{solved.mean():.0f}", f"{np.median(solved):.0f}"
        norm = f"{norms[won].mean():.2f}"
    return (
        *(r.name, f"{r.eps:.2f}", f"{won.mean():.1%}", mean, median, f"{queries.mean():.0f}", norm),
        *(f"{len(won) / r.seconds:.1f}", f"{r.compile_seconds:.1f} s"),
    )


def draw(
    path: str | PathLike,
    attacked: Sequence[Attacked],
    model: Callable,
    x: np.ndarray,
    y: np.ndarray,
    budget: int,
    targeted: bool,
) -> Path:
    """Draws digits before and after, with predictions, above success against queries; returns the path.

    `model` maps images `x` `(n, size, size)` of classes `y` to logits; `targeted` attacks aimed at a class.
    """
    solved = [r for r in attacked if np.any(r.result.success)]
    shown = [r for norm in ("linf", "l2") for r in [r for r in solved if r.norm == norm][:1]]
    heights = [*[3.9] * len(shown), 3.2]
    figure = _plots.make_figure(9, sum(heights))
    parts = figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
    for part, r in zip(parts, shown, strict=False):
        _strip(part, r, model, x, y)
    axes = parts[-1].subplots()
    _success(axes, attacked, budget)
    axes.set_ylabel("targets reached" if targeted else "images misclassified")
    return _plots.save_figure(figure, path, dpi=130)


def _success(axes: Any, attacked: Sequence[Attacked], budget: int) -> None:
    """The fraction of images that each attack solved, against queries."""
    from matplotlib.ticker import PercentFormatter

    for r in attacked:
        queries = np.sort(np.where(r.result.success, r.result.queries, np.inf))
        rate = np.arange(1, len(queries) + 1) / len(queries)
        reached = np.isfinite(queries)
        last = rate[reached][-1] if reached.any() else 0
        x, y = [1, *queries[reached], budget], [0, *rate[reached], last]
        style = "-" if r.norm == "linf" else "--"
        axes.step(x, y, where="post", linestyle=style, label=f"{r.name}, eps {r.eps:g}")
    axes.set(xlabel="queries", xscale="log", xlim=(1, max(budget, 2)), ylim=(0, 1.02))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.grid(color="0.92")
    axes.legend(frameon=False, loc="upper left", fontsize=9)


def _strip(figure: Any, r: Attacked, model: Callable, x: np.ndarray, y: np.ndarray) -> None:
    """Three rows: original, perturbation, adversarial; one solved image of each class in turn."""
    won = np.flatnonzero(r.result.success)
    by_class = sorted(won, key=lambda i: (np.sum(y[won[won < i]] == y[i]), y[i]))[:COLUMNS]
    before = np.asarray(jax.nn.softmax(model(x[by_class])))
    adversarial = np.asarray(r.result.adversarial)[by_class]
    after = np.asarray(jax.nn.softmax(model(adversarial)))
    figure.suptitle(f"{r.name}, eps = {r.eps:g}", fontsize=11)
    axes = figure.subplots(3, COLUMNS, squeeze=False, gridspec_kw={"wspace": 0.05})
    limit = max(float(np.abs(adversarial - x[by_class]).max()), 1e-6)
    grey = dict(cmap="gray_r", vmin=0, vmax=1, interpolation="nearest")
    change = dict(cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest")
    for k, i in enumerate(by_class):
        axes[0, k].imshow(x[i], **grey)
        axes[1, k].imshow(adversarial[k] - x[i], **change)
        axes[2, k].imshow(adversarial[k], **grey)
        axes[0, k].set_title(f"{before[k].argmax()}  ({before[k].max():.0%})", fontsize=9)
        axes[2, k].set_title(f"{after[k].argmax()}  ({after[k].max():.0%})", fontsize=9, color="C3")
        axes[1, k].set_title(f"{int(r.result.queries[i])} queries", fontsize=8, color="0.4")
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_color("0.8")
    for axis in axes[:, len(by_class) :].flat:
        axis.set_axis_off()
    for axis, label in zip(axes[:, 0], ("original", "added", "adversarial"), strict=True):
        axis.set_ylabel(label, fontsize=9)
