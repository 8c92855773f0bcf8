"""What `minimize` hands to the loops on the device and on the host, and what they hand back."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from zojax.search.algorithms._algorithm import Algorithm
from zojax.search.spaces import Space

POINTS_KEPT = 2**26  # numbers in a history of points; beyond that only values are kept
SHARE = 64  # of a noisy budget, one evaluation in so many looks at the recommended point again
FEW = 4  # such evaluations at least
LEAST = 100  # evaluations of a budget that can spare them


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

    @property
    def is_noisy(self) -> bool:
        """Whether two values of a point may differ, as far as the user has said."""
        return self.with_key or self.algorithm.repeats_points


class Clock(NamedTuple):
    """A time budget: its seconds, and the end of them by `time.monotonic`."""

    seconds: float
    end: float

    @property
    def left(self) -> float:
        return self.end - time.monotonic()

    def why_stop(self) -> str | None:
        return None if self.left > 0 else f"time budget of {self.seconds:g} s spent"


class Task(NamedTuple):
    """A problem, its inputs and its ends.

    `known_x` (n, d) are points to start from; `known_values` (n,) their values, or None.
    `report(evaluations, x, value)` is called from time to time and says whether to stop; it watches
    `clock`. `reserve` evaluations beyond the problem's budget look at the recommended point again.
    `catch` are exceptions that count as failed evaluations.
    """

    problem: Problem
    key: jax.Array
    args: tuple
    known_x: np.ndarray
    known_values: np.ndarray | None
    target: float | None
    patience: int | None
    report: Callable[[int, np.ndarray, float], str | None] | None
    clock: Clock | None = None
    reserve: int = 0
    catch: tuple[type[Exception], ...] = ()


class Outcome(NamedTuple):
    """What the runs did; all values are to be minimised.

    `x` (runs, d) and `value` (runs,) are recommendations, `values` and `points` a history for each run.
    `value_error` (runs,) has standard errors of `value`, nan where unknown; None without noise.
    """

    x: np.ndarray
    value: np.ndarray
    value_error: np.ndarray | None
    values: list[np.ndarray]
    points: list[np.ndarray] | None
    state: Any
    message: str
    stopped: bool = False  # by something that ends all runs: a callback, the time, an interrupt
    failure: str | None = None  # the first exception of an evaluation
    raised: BaseException | None = None  # what ended the search, to be raised again


def keeps_points(problem: Problem) -> bool:
    return problem.budget * problem.runs * problem.space.dimension <= POINTS_KEPT


def first_state(algorithm: Algorithm, space: Space, budget: int, key) -> Any:
    """The algorithm's first state, with the types of those that follow, so that a step compiles once."""
    state = algorithm.init(key, space, budget)
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.result_type(leaf)), state)


def reserved(algorithm: Algorithm, budget: int, points: int) -> int:
    """How many evaluations of a noisy budget look at the recommended point again.

    None of a small budget, nor of what the given points need.
    """
    spare = budget - max(1, points) * algorithm.samples
    number = min(max(FEW, budget // SHARE), spare)
    return number if budget >= LEAST and number > 1 else 0


def mean_and_error(values: np.ndarray, otherwise: float) -> tuple[float, float]:
    """The mean of the finite ones of values (n,), and its standard error; inf and nan if all failed.

    Fewer than two values say nothing about the error: then `otherwise` and nan.
    """
    finite = values[np.isfinite(values)]
    if len(values) < 2:
        return otherwise, np.nan
    if len(finite) < 2:
        return (finite[0] if len(finite) else np.inf), np.nan
    return np.mean(finite), np.std(finite, ddof=1) / np.sqrt(len(finite))


def one_after_another(run: Callable[[jax.Array], Outcome], keys) -> Outcome:
    """A run for each key, until one is stopped; of an interrupted one what it has."""
    outcomes: list[Outcome] = []
    for key in keys:
        try:
            outcomes.append(run(key))
        except BaseException as error:  # which came before the run had anything to show
            if not outcomes:
                raise
            outcomes[-1] = stopped_by(error, outcomes[-1])
        if outcomes[-1].stopped:
            break
    return concatenate(outcomes)


def stopped_by(error: BaseException, outcome: Outcome) -> Outcome:
    """The outcome of a search that an exception ended; all but an interrupt are raised again."""
    if isinstance(error, KeyboardInterrupt):
        return outcome._replace(stopped=True, message="interrupted")
    message = f"ended by {type(error).__name__}: {error}"
    return outcome._replace(stopped=True, message=message, raised=error)


def concatenate(outcomes: list[Outcome]) -> Outcome:
    """Runs that were made one after the other as one outcome; it ended as the best did, or by a stop."""
    last = outcomes[-1]
    value = np.concatenate([o.value for o in outcomes])
    points = [o.points for o in outcomes]
    errors = [o.value_error for o in outcomes]
    return Outcome(
        x=np.concatenate([o.x for o in outcomes]),
        value=value,
        value_error=None if last.value_error is None else np.concatenate(errors),
        values=[v for o in outcomes for v in o.values],
        points=None if None in points else [p for run in points for p in run],
        state=jax.tree.map(lambda *leaves: jnp.stack(leaves), *[o.state for o in outcomes]),
        message=(last if last.stopped else outcomes[int(np.argmin(value))]).message,
        stopped=last.stopped,
        failure=next((o.failure for o in outcomes if o.failure), None),
        raised=last.raised,
    )
