"""A picture of runs: reward, length and drift of held-out texts over generated tokens."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from zojax.lm._extras import require
from zojax.lm._files import FilePath

PANELS = {
    "reward": "held-out reward",
    "solved": "share solved",
    "length": "tokens of a text",
    "drift": "drift (nats a token)",
}


def draw(path: FilePath, runs: Mapping[str, Sequence[Sequence[dict[str, Any]]]]) -> pathlib.Path:
    """Draws held-out rows, a colour for each name and a line for each run; returns the absolute path.

    Args:
      path: of the picture.
      runs: from a name to runs, such as `{"eggroll": [trained.held_out]}`.

    Raises:
      ModuleNotFoundError: without Matplotlib.
    """
    figure = require("matplotlib.figure", "rl").Figure(figsize=(9, 6), layout="constrained")
    for axes, (column, label) in zip(figure.subplots(2, 2).flat, PANELS.items(), strict=True):
        for color, (name, several) in enumerate(runs.items()):
            for i, rows in enumerate(several):
                points = [(row["tokens"], row[column]) for row in rows if column in row]
                options = dict(color=f"C{color}", marker=".", label=None if i else name)
                axes.plot(*zip(*points, strict=True), **options) if points else None
        axes.set(xlabel="generated tokens", ylabel=label)
        axes.grid(color="0.92")
    figure.axes[0].legend(frameon=False)
    path = pathlib.Path(path).expanduser().absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    return path
