"""Pictures of searches: histories of several runs, parallel coordinates, and importance."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from zojax._plot import new_axes, plot_run, spans_a_hundred
from zojax.search.engine.columns import Column
from zojax.search.engine.importance import importance_in, require_one_objective

PARALLEL, BARS = 10, 20  # most variables of a picture
ABSENT = -0.12  # height of variables that are not part of a point


class Runs(Protocol):
    """A `SearchResult`, or any object with the `History` of each run."""

    @property
    def runs(self) -> tuple[Any, ...]: ...


def plot_history(
    results: Runs | Sequence[Runs] | Mapping[str, Runs | Sequence[Runs]], ax: Any = None
) -> Any:
    """Plots the best value so far against evaluations: the median of several runs, and a band.

    The band spans the middle half of the runs. A run that ended early keeps its best value. Needs
    matplotlib.

    Args:
      results: a result, whose repeats are its runs; a list of results, whose runs are taken together; or a
        dict of these by name, with a line each.
      ax: axes to draw on; new ones by default.

    Returns:
      The axes.

    Raises:
      ValueError: no result, or one without evaluations.

    >>> from zojax import search
    >>> found = {name: search.minimize(lambda x: (x - 1) ** 2, search.uniform(0, 4), algorithm,
    ...                                budget=20, key=0, repeats=3)
    ...          for name, algorithm in {"random": search.random_search(), "default": None}.items()}
    >>> [line.get_label() for line in search.plot_history(found).lines]
    ['random', 'default']
    """
    named = results if isinstance(results, Mapping) else {"": results}
    quartiles = {name: _quartiles(name, given) for name, given in named.items()}
    if not quartiles:
        raise ValueError("results must hold at least one result, got none.")
    ax = new_axes(ax, (6, 4))
    for name, (low, median, high) in quartiles.items():
        places = np.arange(1, len(median) + 1)
        (line,) = ax.step(places, median, where="post", label=name or "median")
        if np.any(low != high):
            band = "_" if name else "middle half of the runs"
            color = line.get_color()
            ax.fill_between(
                places, low, high, step="post", alpha=0.2, color=color, lw=0, label=band
            )
    if spans_a_hundred(np.concatenate([row for rows in quartiles.values() for row in rows])):
        ax.set_yscale("log")
    ax.set(xlabel="evaluations", ylabel="best value so far")
    if len(ax.get_legend_handles_labels()[1]) > 1:
        ax.legend(frameon=False)
    return ax


def plot_result(result: Any, ax: Any) -> Any:
    """All values of one run, or the best values so far of several."""
    if len(result.runs) > 1:
        return plot_history(result, ax)
    values, best_values = result.history.values, result.history.best_values
    return plot_run(ax, values, best_values, result.best_value, count="evaluations", word="best")


def plot_parallel(history: Any, ax: Any) -> Any:
    """A line for each evaluation, across one vertical axis for each variable and one for the value."""
    chosen = list(importance_in(history))[:PARALLEL]
    shown = np.isfinite(history.values) & ~history.pruned
    columns = [c._replace(values=c.values[shown]) for c in history.columns if c.label in chosen]
    values = history.values[shown]
    axes = [_Axis(c) for c in [*columns, Column("value", values, is_log=spans_a_hundred(values))]]
    ax = new_axes(ax, (1.2 * len(axes), 3.6))
    is_maximized = len(values) > 0 and history.best_values[-1] > np.min(values)
    order = np.argsort(values if is_maximized else -values, kind="stable")  # the best on top
    _draw_lines(ax, np.array([axis.heights for axis in axes]).T[order])
    for place, axis in enumerate(axes):
        _draw_axis(ax, place, axis)
    ax.set(xlim=(-0.5, len(axes) - 0.8), ylim=(min(a.lowest for a in axes) - 0.05, 1.05), yticks=[])
    # Long labels have a line for each part of the path.
    labels = [a.label if len(a.label) <= 12 else a.label.replace(".", ".\n") for a in axes]
    ax.set_xticks(range(len(axes)), labels)
    ax.tick_params(axis="x", length=0)
    ax.spines[:].set_visible(False)
    ax.grid(visible=False)
    return ax


def plot_importance(importance: Mapping[str, float], ax: Any) -> Any:
    """A bar for each variable, the most important on top."""
    shown = list(importance.items())[:BARS][::-1]
    ax = new_axes(ax, (6, 0.9 + 0.3 * len(shown)))
    bars = ax.barh([name for name, _ in shown], [share for _, share in shown], height=0.7)
    ax.bar_label(bars, fmt="%.2f", padding=3)
    ax.set(xlabel="share of the variance of ranks", ylim=(-0.6, len(shown) - 0.4))
    ax.margins(x=0.1)
    ax.grid(visible=False, axis="y")
    return ax


def _quartiles(name: str, results: Any) -> np.ndarray:
    """The quartiles (3, evaluations) of the best values so far of all runs."""
    given = [results] if hasattr(results, "runs") else list(results)
    histories = [history for result in given for history in result.runs]
    for history in histories:
        require_one_objective(history)
    lines = [history.best_values for history in histories]
    longest = max((len(line) for line in lines), default=0)
    if not longest or not all(map(len, lines)):
        place = f"results[{name!r}]" if name else "results"
        raise ValueError(f"{place} must hold evaluations, got {given!r}.")
    rows = [np.pad(line, (0, longest - len(line)), mode="edge") for line in lines]
    # A value between a finite one and inf is inf.
    with np.errstate(invalid="ignore"):
        return np.quantile(rows, [0.25, 0.5, 0.75], axis=0)


class _Axis:
    """A vertical axis: heights in [0, 1], and ticks."""

    def __init__(self, column: Column):
        self.label, x = column.label, column.values
        self.is_log = column.is_log
        x = np.log(x) if self.is_log else x
        known = x[~np.isnan(x)]
        self.low, self.high = known.min(initial=np.inf), known.max(initial=-np.inf)
        self.heights = np.where(np.isnan(x), ABSENT, self._height(x))
        self.lowest = self.heights.min(initial=0)
        self.ticks = self._ticks(known, column.options)

    def _height(self, x):
        span = self.high - self.low
        return (x - self.low) / span if span > 0 else np.full(np.shape(x), 0.5)

    def _ticks(self, known: np.ndarray, options: list[str] | None) -> list[tuple[float, str]]:
        places = np.unique(known)
        if options is None and len(places) > 5:
            places = np.linspace(self.low, self.high, 3)
        value = np.exp if self.is_log else (lambda x: x)
        texts = [options[int(x)] if options is not None else f"{value(x):.3g}" for x in places]
        absent = [(ABSENT, "absent")] if self.lowest < 0 else []
        return [*absent, *zip(self._height(places).tolist(), texts, strict=True)]


def _draw_lines(ax: Any, heights: np.ndarray) -> None:
    """Lines (n, axes), from the worst to the best, brighter and less transparent."""
    import matplotlib.pyplot as plt
    from matplotlib.collections import LineCollection

    rank = np.linspace(0, 1, len(heights))
    colors = plt.get_cmap("viridis")(0.9 * rank)
    colors[:, 3] = min(0.15, 15 / len(rank)) + 0.75 * rank**4
    places = np.broadcast_to(np.arange(heights.shape[1]), heights.shape)
    ax.add_collection(LineCollection(list(np.stack([places, heights], -1)), colors=colors, lw=1.0))


def _draw_axis(ax: Any, place: int, axis: _Axis) -> None:
    ax.plot([place, place], [0, 1], color="#7d7d7d", lw=1)
    box = {"facecolor": "white", "alpha": 0.7, "lw": 0, "pad": 0.5}
    for height, text in axis.ticks:
        ax.annotate(
            text, (place, height), xytext=(-4, 0), textcoords="offset points", bbox=box,
            ha="right", va="center", size="small",
        )  # fmt: skip
