"""Figures of the examples: one look, drawn without a display."""

import pathlib
from os import PathLike
from typing import Any

import numpy as np


def make_figure(width: float, height: float) -> Any:
    """An empty Matplotlib figure; unlike pyplot's it needs no display."""
    from matplotlib import style
    from matplotlib.figure import Figure

    style.use("zojax.examples.plots")
    return Figure(figsize=(width, height))


def panels(names: list[str], height: float) -> tuple[Any, list[Any]]:
    """A figure with one titled panel for each name, side by side, and the panels."""
    figure = make_figure(5 * len(names), height)
    axes = figure.subplots(1, len(names), squeeze=False)[0]
    for axis, name in zip(axes, names, strict=True):
        axis.set_title(name)
    return figure, list(axes)


def save_figure(figure: Any, path: str | PathLike, dpi: int = 150) -> pathlib.Path:
    """Writes a figure and the folders above it; returns the absolute path."""
    path = pathlib.Path(path).expanduser().absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=dpi)
    return path


def loss_curve(
    path: str | PathLike,
    losses: list[float],
    curve: dict[int, float],
    *,
    label: str,
    start: str,
    what: str,
    title: str,
) -> pathlib.Path:
    """Draws a loss curve, with a line at its value before training; returns the absolute path.

    `losses` are of every training step, NaN if unknown; `curve` is `what` on the split `label`, by steps;
    `start` names the model before training.
    """
    width = max(1, len(losses) // 10)
    mean = np.convolve(losses, np.ones(width) / width, mode="valid")
    figure = make_figure(6, 4)
    axes = figure.subplots()
    before = next(iter(curve.values()))
    axes.axhline(before, color="0.5", linewidth=1, linestyle=":", label=f"{label}, {start}")
    axes.plot(np.arange(1, len(losses) + 1), losses, color="0.85", linewidth=1)
    middle = np.arange(len(mean)) + (width + 1) / 2
    axes.plot(middle, mean, color="C0", label=f"training batches, mean of {width}")
    axes.plot(list(curve), list(curve.values()), "o-", color="C3", label=label)
    axes.set(xlabel="step", ylabel=what, title=title)
    axes.xaxis.get_major_locator().set_params(integer=True)
    if _decades([*losses, *curve.values()]) > 2:  # a run that diverged, too
        axes.set_yscale("log")
    axes.legend()
    return save_figure(figure, path)


def _decades(values: list[float]) -> float:
    """Powers of ten between the smallest and the largest positive number; 0 if one is not positive."""
    known = np.array(values)[np.isfinite(values)]
    return float(np.log10(known.max() / known.min())) if len(known) and known.min() > 0 else 0.0
