"""Pictures: axes, and the values of a run with the best so far."""

from typing import Any

import numpy as np


def new_axes(ax: Any, size: tuple[float, float]) -> Any:
    """`ax`, or new axes in place of None."""
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError("plot() needs matplotlib: pip install matplotlib.") from error
    return plt.subplots(figsize=size)[1] if ax is None else ax


def spans_a_hundred(values: np.ndarray) -> bool:
    """Whether finite values are positive and span a factor of 100: a logarithmic scale shows more."""
    values = values[np.isfinite(values)]
    return len(values) > 0 and values.min() > 0 and values.max() >= 100 * values.min()


def plot_run(
    ax: Any, values: np.ndarray, best_values: np.ndarray, best: float, *, count: str, word: str
) -> Any:
    """Draws on `ax`, or on new axes, and returns the axes; needs matplotlib.

    `count` names the horizontal axis, `word` the best value, such as "least". The scale is logarithmic if
    positive values span a factor of 100.
    """
    ax = new_axes(ax, (6, 4))
    places = np.arange(1, len(values) + 1)
    ax.plot(places, values, ".", ms=2, alpha=0.4, label="value")
    ax.step(places, best_values, where="post", label=f"{word} so far")
    if spans_a_hundred(values):
        ax.set_yscale("log")
    ax.set(xlabel=count, ylabel="value", title=f"{word} {best:.6g}")
    ax.legend(frameon=False)
    return ax
