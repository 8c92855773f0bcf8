"""A search by ask and tell, one point at a time, for loops that `minimize` cannot call."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from zojax._keys import as_key
from zojax._scalars import host_values, is_finite
from zojax._trees import PyTree
from zojax.search._random import split
from zojax.search.algorithms import Algorithm, random_search
from zojax.search.engine.arguments import as_budget, choose_algorithm, sign_of
from zojax.search.engine.front import Front
from zojax.search.engine.host_programs import HostPrograms, host_programs
from zojax.search.engine.once import never_twice
from zojax.search.engine.outcome import leading
from zojax.search.engine.task import Problem, no_function
from zojax.search.spaces import space as as_space


class Candidate(NamedTuple):
    """A point to evaluate.

    Attributes:
      point: the user's pytree.
      x: its encoded coordinates, (d,).
      place: (number of the ask, row of its batch); None for a random point.
    """

    point: PyTree
    x: np.ndarray
    place: tuple[int, int] | None


class Batch(NamedTuple):
    """The points of one ask, (n, d), how many are handed out, and the values told so far, by row."""

    x: np.ndarray
    out: int
    values: dict[int, Any]


class AskTellState(NamedTuple):
    """The state of a search by ask and tell: arrays and Python's own types, so `pickle` saves it.

    Attributes:
      inner: the algorithm's state.
      random: the state of random points, from the first one on.
      batches: asks without all their values, by number.
      asks: the number of asks.
      best: (point, value) of the best value told, or None.
    """

    inner: Any
    random: Any
    batches: dict[int, Batch]
    asks: int
    best: tuple[np.ndarray, float] | None


class AskTell(NamedTuple):
    """A search as pure functions of a state, from `ask_tell`.

    Attributes:
      init: () -> state.
      ask: state -> (candidate, state).
      tell: (state, candidate, value) -> state. Tell the candidates in any order. A value that is not finite
        is a failure: tell it, too.
      inject: (state, point, value) -> state, after a point that was evaluated elsewhere.
      best: state -> (point, value), the best so far. For noisy functions, the algorithm's recommendation.
        With several objectives, the algorithm's `Front`.
    """

    init: Callable[[], AskTellState]
    ask: Callable[[AskTellState], tuple[Candidate, AskTellState]]
    tell: Callable[[AskTellState, Candidate, Any], AskTellState]
    inject: Callable[[AskTellState, PyTree, Any], AskTellState]
    best: Callable[[AskTellState], Any]


def ask_tell(
    space: PyTree,
    algorithm: Algorithm | None = None,
    *,
    budget: int,
    key: int | jax.Array,
    maximize: bool | tuple[bool, ...] = False,
    objectives: int | None = None,
) -> AskTell:
    """A search whose loop is yours: ask for a point, evaluate it anywhere, tell its value.

    Several candidates may be open at once. The algorithm proposes those that it can: a batch, or its
    `in_flight` asks. Further ones are random points, and their values are injected. So pass
    `search.asracos(in_flight=n)` for n workers.

    Args:
      space, algorithm, key, maximize, objectives: as in `search.minimize`.
      budget: about how many evaluations there will be. Algorithms set sizes by it; asks never end.

    Raises:
      TypeError, ValueError: as in `search.minimize`.

    >>> from zojax import search
    >>> tuner = search.ask_tell({"x": search.uniform(-5, 5)}, search.sracos(), budget=60, key=0)
    >>> state = tuner.init()
    >>> for _ in range(60):
    ...     candidate, state = tuner.ask(state)
    ...     state = tuner.tell(state, candidate, (candidate.point["x"] - 1) ** 2)
    >>> point, value = tuner.best(state)
    >>> abs(point["x"] - 1) < 0.1
    True
    """
    space, key = as_space(space), as_key(key)
    budget, _ = as_budget(budget, space)
    algorithm = choose_algorithm(algorithm, space, budget, None, objectives)
    sign = sign_of(maximize, algorithm.objectives)
    problem = Problem(no_function, space, algorithm, budget, 1, sign, False, planned=budget)
    once = never_twice(algorithm, space, budget)
    make = partial(host_programs, space=space, budget=budget, key=key, dtype=np.dtype(np.float64))
    loop = _Loop(problem, make(once), partial(make, random_search()), key)
    return AskTell(loop.init, loop.ask, loop.tell, loop.inject, loop.best)


class _Loop(NamedTuple):
    """The functions of `AskTell`."""

    problem: Problem
    own: HostPrograms
    spare: Callable[[], HostPrograms]  # for points beyond the open batches
    key: jax.Array

    def init(self) -> AskTellState:
        return AskTellState(self.own.start(self.key), None, {}, 0, None)

    def ask(self, state: AskTellState) -> tuple[Candidate, AskTellState]:
        size, most = self.problem.algorithm.batch_size, self.problem.algorithm.in_flight
        number, batches = state.asks - 1, state.batches
        if number not in batches or batches[number].out == size:
            if len(batches) >= most:
                spare, random = self.spare(), state.random
                if random is None:
                    random = spare.start(split(self.key, 1)[0])
                x, random = spare.ask(random)
                return self._candidate(np.asarray(x)[0], None), state._replace(random=random)
            x, inner = self.own.ask(state.inner)
            number += 1
            state = state._replace(inner=inner, asks=number + 1)
            batches = batches | {number: Batch(np.asarray(x), 0, {})}
        batch = batches[number]
        candidate = self._candidate(batch.x[batch.out], (number, batch.out))
        batches = batches | {number: batch._replace(out=batch.out + 1)}
        return candidate, state._replace(batches=batches)

    def tell(self, state: AskTellState, candidate: Candidate, value: Any) -> AskTellState:
        if candidate.place is None:
            return self._injected(state, candidate.x, value)
        number, row = candidate.place
        if number not in state.batches or row in state.batches[number].values:
            raise ValueError(
                f"candidate must be open, got {candidate}, whose value was told before."
            )
        value = self._told(value)
        state, batch = self._with_best(state, candidate.x, value), state.batches[number]
        batch = batch._replace(values=batch.values | {row: value})
        rest = {n: b for n, b in state.batches.items() if n != number}
        if len(batch.values) < len(batch.x):
            return state._replace(batches=rest | {number: batch})
        values = np.asarray([batch.values[i] for i in range(len(batch.x))], self.own.dtype)
        return state._replace(inner=self.own.tell(state.inner, batch.x, values), batches=rest)

    def inject(self, state: AskTellState, point: PyTree, value: Any) -> AskTellState:
        return self._injected(state, self.problem.space.encode(point), value)

    def best(self, state: AskTellState) -> Any:
        problem = self.problem
        if not problem.value_shape and not problem.is_noisy and state.best is not None:
            x, value = state.best
        else:
            _, x, value = self.own.end(state.inner)
            values = np.reshape(np.asarray(value, float), (-1, *problem.value_shape))
            x, value = leading(np.reshape(x, (-1, problem.space.dimension)), values)
        point, value = problem.space.point(x), problem.signed(value)
        if problem.value_shape:
            return Front(point, value, tuple(sign < 0 for sign in np.atleast_1d(problem.sign)))
        return point, value

    def _candidate(self, x: np.ndarray, place: tuple[int, int] | None) -> Candidate:
        return Candidate(self.problem.space.point(x), x, place)

    def _injected(self, state: AskTellState, x: np.ndarray, value: Any) -> AskTellState:
        value = self._told(value)
        told = np.asarray(value, self.own.dtype)[()]
        inner = self.own.inject(state.inner, x.astype(self.own.dtype), told)
        return self._with_best(state, x, value)._replace(inner=inner)

    def _told(self, value: Any) -> Any:
        """The value to be minimized; inf for a failure."""
        shape = self.problem.value_shape
        value = self.problem.signed(host_values(value, shape, "the evaluation"))
        return value if is_finite(value) else np.full(shape, np.inf)[()]

    def _with_best(self, state: AskTellState, x: np.ndarray, value: Any) -> AskTellState:
        if self.problem.value_shape or (state.best is not None and not value < state.best[1]):
            return state
        return state._replace(best=(x, value))
