"""What `minimize` hands to the loops on the device and on the host, and what they hand back."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from zojax.search._algorithm import Algorithm
from zojax.search.spaces import Space

POINTS_KEPT = 2**26  # numbers in a history of points; beyond that only values are kept


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
    `report(evaluations, x, value)` is called from time to time and says whether to stop; `timed` says
    that it watches a clock.
    """

    problem: Problem
    key: jax.Array
    args: tuple
    known_x: np.ndarray
    known_values: np.ndarray | None
    target: float | None
    patience: int | None
    report: Callable[[int, np.ndarray, float], str | None] | None
    timed: bool = False


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
    stopped: bool = False  # by something that ends all runs: a callback, the time, an interrupt
    error: str | None = None  # the first that an evaluation raised


def keeps_points(problem: Problem) -> bool:
    return problem.budget * problem.runs * problem.space.dimension <= POINTS_KEPT


def first_state(algorithm: Algorithm, space: Space, budget: int, key) -> Any:
    """The algorithm's first state, with the types of those that follow, so that a step compiles once."""
    state = algorithm.init(key, space, budget)
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.result_type(leaf)), state)


def one_after_another(run: Callable[[jax.Array], Outcome], keys) -> Outcome:
    """A run for each key, until one is stopped; of an interrupted one what it has."""
    outcomes: list[Outcome] = []
    for key in keys:
        try:
            outcomes.append(run(key))
        except KeyboardInterrupt:  # which came before the run had anything to show
            if not outcomes:
                raise
            outcomes[-1] = outcomes[-1]._replace(stopped=True, message="interrupted")
        if outcomes[-1].stopped:
            break
    return concatenate(outcomes)


def concatenate(outcomes: list[Outcome]) -> Outcome:
    """Runs that were made one after the other as one outcome; it ended as the best did, or by a stop."""
    last = outcomes[-1]
    value = np.concatenate([o.value for o in outcomes])
    points = [o.points for o in outcomes]
    return Outcome(
        x=np.concatenate([o.x for o in outcomes]),
        value=value,
        values=[v for o in outcomes for v in o.values],
        points=None if None in points else [p for run in points for p in run],
        state=jax.tree.map(lambda *leaves: jnp.stack(leaves), *[o.state for o in outcomes]),
        message=(last if last.stopped else outcomes[int(np.argmin(value))]).message,
        stopped=last.stopped,
        error=next((o.error for o in outcomes if o.error), None),
    )
