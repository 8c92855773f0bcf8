"""The task that `minimize` gives to the loops on the device and on the host."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from zojax.search.algorithms._algorithm import Algorithm
from zojax.search.pruners import Pruner
from zojax.search.spaces import Space

POINTS_KEPT = 2**26  # numbers in a history of points; a larger history keeps values only
SHARE = 64  # 1 in SHARE evaluations of a noisy budget repeats the recommended point
FEW = 4  # fewest such evaluations
LEAST = 100  # smallest budget with such evaluations


def no_function(point: Any, *args: Any) -> Any:
    """In the place of `fun`, so that all functions share a `Problem`."""
    raise NotImplementedError


class Problem(NamedTuple):
    """The fixed part of a run: hashable, so that equal searches compile once.

    `sign` is -1 when maximizing, with several objectives one number each. Everything below `minimize`
    searches for the least values. `budget` is the most evaluations of a run. `planned` is the budget that
    the algorithm knows. With `constraints`, a value is a row: the user's value, then one number each.
    """

    fun: Callable
    space: Space
    algorithm: Algorithm
    budget: int
    runs: int
    sign: float | tuple[float, ...]
    with_key: bool
    planned: int
    constraints: int = 0

    @property
    def is_front(self) -> bool:
        """Whether there are several objectives."""
        return bool(self.value_shape) and not self.constraints

    @property
    def is_noisy(self) -> bool:
        """Whether the user said that two values of a point may differ. A front is taken as it is."""
        return not self.value_shape and (self.with_key or self.algorithm.repeats_points)

    @property
    def value_shape(self) -> tuple[int, ...]:
        """The shape of one value: () for one objective, else (objectives,)."""
        return (len(self.sign),) if isinstance(self.sign, tuple) else ()

    def score(self, values: Any) -> Any:
        """The values (...) that count. Of rows with constraints, inf for infeasible ones."""
        if not self.constraints:
            return values
        xp: Any = jnp if isinstance(values, jax.Array) else np
        return xp.where(xp.all(values[..., 1:] <= 0, axis=-1), values[..., 0], xp.inf)

    def shown(self, scores: Any) -> Any:
        """Scores in the user's sign, and back."""
        return (self.sign[0] * scores) if self.constraints else self.signed(scores)  # type: ignore[index]

    def signed(self, values: Any) -> Any:
        """The user's values (..., *value_shape) to be minimized, and back."""
        return (np.asarray(self.sign) if self.value_shape else self.sign) * values


class Clock(NamedTuple):
    """A time budget: its seconds, and its end by `time.monotonic`."""

    seconds: float
    end: float

    @property
    def left(self) -> float:
        return self.end - time.monotonic()

    def why_stop(self) -> str | None:
        """The message of a spent time budget, or None."""
        return None if self.left > 0 else f"time budget of {self.seconds:g} s spent"


class Starts(NamedTuple):
    """The given points (n, d), encoded, and their values (n, *value_shape), to be minimized, or None."""

    x: np.ndarray
    values: np.ndarray | None


class SearchState(NamedTuple):
    """The end of a search, from which another call of `minimize` goes on.

    It has no history. Save it as any pytree.

    Attributes:
      algorithm: the algorithm's state and, on a finite space, its memory of evaluated points; with a
        leading axis of runs if repeats > 1.
      x: (runs, d), the encoded recommended points.
      values: (runs,), their values, negated when maximizing.
      evaluations: of each run so far.
      budget: of the first search. It chose the algorithm, if none was given.
      planned: the part of it that the algorithm knows.
      key: the data of the search's key.
    """

    algorithm: Any
    x: np.ndarray
    values: np.ndarray
    evaluations: int
    budget: int
    planned: int
    key: np.ndarray


class SearchTask(NamedTuple):
    """A problem, its inputs, and its stopping conditions.

    `report(evaluations, x, value)` is called now and then. It returns a reason to stop, or None, and
    watches `clock`. `reserve` evaluations beyond the problem's budget repeat the recommended point.
    Exceptions in `catch` count as failed evaluations. `pruner` may end evaluations early. `state` is the
    end of an earlier search. A call on the host may take `timeout` seconds, and has so many `retries`.
    """

    problem: Problem
    key: jax.Array
    args: tuple
    starts: Starts
    target: float | None
    patience: int | None
    report: Callable[..., str | None] | None
    clock: Clock | None = None
    reserve: int = 0
    catch: tuple[type[Exception], ...] = ()
    has_aux: bool = False
    batched: bool = False
    journal: Any = None
    state: SearchState | None = None
    pruner: Pruner | None = None
    timeout: float = np.inf
    retries: int = 0


def keeps_points(problem: Problem, evaluations: int) -> bool:
    """Whether a history of so many evaluations a run keeps points besides values."""
    return evaluations * problem.runs * problem.space.dimension <= POINTS_KEPT


def first_state(algorithm: Algorithm, space: Space, budget: int, key: jax.Array) -> Any:
    """The algorithm's first state, with the types of later states, so that a step compiles once."""
    state = algorithm.init(key, space, budget)
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.result_type(leaf)), state)


def as_types_of(state: Any, like: Any) -> Any:
    """A state of an earlier search, which may have run in another precision."""
    return jax.tree.map(lambda leaf, new: jnp.asarray(leaf, new.dtype), state, like)


def reserved(algorithm: Algorithm, budget: int, points: int) -> int:
    """How many evaluations of a noisy budget repeat the recommended point; the given points come first."""
    spare = budget - max(1, points) * algorithm.samples
    number = min(max(FEW, budget // SHARE), spare)
    return number if budget >= LEAST and number > 1 else 0
