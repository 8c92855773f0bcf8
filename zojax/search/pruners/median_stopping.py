"""Median stopping: an evaluation ends if its best value is worse than what most others had by then."""

from bisect import bisect_right
from functools import partial
from typing import NamedTuple

import numpy as np

from zojax._checks import require_count, require_rate
from zojax.search.pruners._pruner import Pruner


class Curve(NamedTuple):
    """The reports of an evaluation: its steps, the mean of all values up to each, and the best value."""

    steps: tuple[float, ...] = ()
    means: tuple[float, ...] = ()
    best: float = float("inf")


def median_stopping(min_evaluations: int = 5, min_steps: float = 0) -> Pruner:
    """Stops an evaluation at a step if its best value so far is above the median of the others there.

    The value of another evaluation is the mean of its reports up to this step. Only evaluations that came
    as far count. It has no rungs and needs no largest step, and saves less than `successive_halving`.

    Args:
      min_evaluations: how many others must have come as far.
      min_steps: nothing stops before this step.

    Raises:
      TypeError: min_evaluations is no int; min_steps is no number.
      ValueError: min_evaluations below 1; min_steps below 0.

    References:
      Golovin et al., `Google Vizier: a service for black-box optimization
      <https://doi.org/10.1145/3097983.3098043>`_, KDD 2017.

    >>> from zojax import search
    >>> def train(p, *, report):
    ...     for step in range(1, 28):
    ...         loss = (p["rate"] - 0.3) ** 2 + 1 / step
    ...         report(step, loss)
    ...     return loss
    >>> found = search.minimize(train, {"rate": search.uniform(0, 1)}, search.random_search(),
    ...                         budget=60, key=0, pruner=search.median_stopping())
    >>> round(found.best["rate"], 1), bool(found.history.pruned.any())
    (0.3, True)
    """
    require_count("min_evaluations", min_evaluations)
    require_rate("min_steps", min_steps)
    return Pruner(init=dict, report=partial(_report, min_evaluations, min_steps))


def _report(least: int, first: float, state: dict[int, Curve], number: int, step: float, value):
    own = state.get(number, Curve())
    count = len(own.means)
    mean = value if not count else own.means[-1] + (value - own.means[-1]) / (count + 1)
    own = Curve((*own.steps, step), (*own.means, mean), min(own.best, value))
    others = [_mean_at(c, step) for n, c in state.items() if n != number and c.steps[-1] >= step]
    stops = step >= first and len(others) >= least and own.best > float(np.median(others))
    return stops, state | {number: own}


def _mean_at(curve: Curve, step: float) -> float:
    """The mean of the reports up to a step; the first one if none is earlier."""
    return curve.means[max(0, bisect_right(curve.steps, step) - 1)]
