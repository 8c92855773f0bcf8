"""What `minimize` hands to the loops on the device and on the host, and what they hand back."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from zojax.search._algorithm import Algorithm
from zojax.search.spaces import Space


class Problem(NamedTuple):
    """What is fixed when a run is compiled: hashable, so that equal searches compile once.

    `sign` is -1 when maximizing: everything below `minimize` searches for the least value.
    """

    fun: Callable
    space: Space
    algorithm: Algorithm
    budget: int
    runs: int
    sign: float
    with_key: bool


class Task(NamedTuple):
    """A problem, its inputs and its ends.

    `known_x` (n, d) are points to start from; `known_values` (n,) their values, or None.
    `report(evaluations, x, value)` is called from time to time and says whether to stop.
    """

    problem: Problem
    key: jax.Array
    args: tuple
    known_x: np.ndarray
    known_values: np.ndarray | None
    target: float | None
    patience: int | None
    report: Callable[[int, np.ndarray, float], str | None]


class Outcome(NamedTuple):
    """What the runs did; all values are to be minimised.

    `x` (runs, d) and `value` (runs,) are recommendations, `values` and `points` a history for each run.
    """

    x: np.ndarray
    value: np.ndarray
    values: list[np.ndarray]
    points: list[np.ndarray] | None
    state: Any
    message: str


def concatenate(outcomes: list[Outcome]) -> Outcome:
    """Runs that were made one after the other as one outcome, with the message of the best."""
    value = np.concatenate([o.value for o in outcomes])
    points = [o.points for o in outcomes]
    return Outcome(
        x=np.concatenate([o.x for o in outcomes]),
        value=value,
        values=[v for o in outcomes for v in o.values],
        points=None if None in points else [p for run in points for p in run],
        state=jax.tree.map(lambda *leaves: jnp.stack(leaves), *[o.state for o in outcomes]),
        message=outcomes[int(np.argmin(value))].message,
    )
