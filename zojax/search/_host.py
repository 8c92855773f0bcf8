"""A search on the host: ask, call, tell; several calls at once with an executor."""

import warnings
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, wait
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import lax

from zojax._call import PROGRAMS
from zojax._types import warn_of_resolution
from zojax.search._algorithm import Algorithm, float_dtype
from zojax.search._packed import Packed, pack, unpack
from zojax.search._random import evaluation_key, split
from zojax.search._task import Outcome, Task, first_state, keeps_points, one_after_another
from zojax.search.spaces import Space


def on_host(task: Task, executor: Executor | None) -> Outcome:
    """Runs the task, one run after the other."""
    run = partial(_run, task, executor)
    if task.problem.runs == 1:
        return run(task.key)
    return one_after_another(run, split(task.key, task.problem.runs))


def _run(task: Task, executor: Executor | None, key: jax.Array) -> Outcome:
    """One run; an interrupt or a broken executor ends it with what is known by then."""
    algorithm = task.problem.algorithm
    loop = _as_completed if executor is not None and algorithm.in_flight > 1 else _in_batches
    programs = _compile(algorithm, task.problem.space)
    log = _Log(task, key, programs.start(key, task.problem.budget), executor)
    try:
        _begin(programs, log)
        loop(programs, log)
    except KeyboardInterrupt:
        if not log.values:
            raise
        log.stop("interrupted")
    except BrokenExecutor as error:
        log.stop(f"executor broke: {error}")
    finally:
        for future in log.pending:
            future.cancel()
    return log.outcome(*programs.end(log.state))


class _Log:
    """Calls the function and remembers what came out: as a run goes."""

    def __init__(self, task: Task, key: jax.Array, state: Packed, executor: Executor | None):
        self.task, self.state, self.executor = task, state, executor
        self.key = evaluation_key(key) if task.problem.with_key else None
        self.pending: dict[Any, np.ndarray] = {}  # futures and their points
        self.values: list[float] = []
        self.points: list[np.ndarray] = []
        self.started, self.best, self.since = 0, np.inf, 0
        self.best_x = None
        self.why: str | None = None
        self.stopped = False
        self.error: str | None = None

    @property
    def left(self) -> int:
        return self.task.problem.budget - self.started

    @property
    def goes_on(self) -> bool:
        return self.why is None and self.left > 0

    def submit(self, x: np.ndarray):
        """Starts an evaluation; without an executor it waits until it is entered."""
        problem = self.task.problem
        extra = {}
        if problem.with_key:
            extra["key"] = jax.random.fold_in(self.key, self.started)
        self.started += 1
        call = problem.fun, problem.space.point(x), *self.task.args
        future = (
            _Later(partial(*call, **extra))
            if self.executor is None
            else self.executor.submit(*call, **extra)
        )
        self.pending[future] = x
        return future

    def evaluate(self, rows: np.ndarray, values: np.ndarray) -> None:
        """Evaluates points, at once where there is an executor, and writes their values as they come.

        What the budget does not allow, and what has not begun when the run is to stop, is left out.
        """
        for i, future in enumerate([self.submit(row) for row in rows[: self.left]]):
            if self.why is not None and future.cancel():
                del self.pending[future]
            else:
                values[i] = self.enter(future)

    def enter(self, future) -> float:
        """The value of an evaluation, inf if it failed; checks whether to stop."""
        value = self._value_of(future)
        x = self.pending.pop(future)
        self.since = 0 if value < self.best else self.since + 1
        if value < self.best or self.best_x is None:
            self.best, self.best_x = value, x
        self.values.append(value)
        if keeps_points(self.task.problem):
            self.points.append(np.asarray(x))
        self.stop_at_target()
        self.why = self.why or self._why_stop()
        return value

    def _value_of(self, future) -> float:
        try:
            value = self.task.problem.sign * _scalar(future.result())
        except Exception as error:
            if self.executor is not None and isinstance(error, BrokenExecutor):
                raise
            if self.error is None:
                warnings.warn(f"an evaluation failed and counts as inf: {error!r}", stacklevel=2)
                self.error = f"{type(error).__name__}: {error}"
            return np.inf
        return value if np.isfinite(value) else np.inf

    def stop_at_target(self) -> None:
        if self.task.target is not None and self.best <= self.task.target:
            self.why = self.why or "target reached"

    def _why_stop(self) -> str | None:
        task = self.task
        if task.patience is not None and self.since >= task.patience:
            return f"no improvement for {task.patience} evaluations"
        if task.report is not None:
            why = task.report(len(self.values), self.best_x, self.best)
            self.stopped = why is not None
            return why
        return None

    def stop(self, why: str) -> None:
        """Ends this run, and all others."""
        self.why, self.stopped = why, True

    def outcome(self, state: Any, x: jax.Array, value: jax.Array) -> Outcome:
        problem, values = self.task.problem, np.asarray(self.values, np.float64)
        x, value = np.asarray(x), np.asarray(value)
        points = None
        if keeps_points(problem):
            points = np.reshape(self.points, (len(values), problem.space.dimension))
            x, value = self._as_evaluated(x, value, points, values)
        warn_of_resolution(values)  # the algorithm was told them rounded
        return Outcome(
            x=x[None],
            value=np.array([float(value)]),
            values=[values],
            points=None if points is None else [points],
            state=state,
            message=self.why or "budget spent",
            stopped=self.stopped,
            error=self.error,
        )

    def _as_evaluated(self, x, value, points, values):
        """The recommendation as the function saw it and its value: the algorithm knows both rounded."""
        if self.task.known_values is not None:
            points = np.concatenate([self.task.known_x, points])
            values = np.concatenate([self.task.known_values, values])
        same = np.all(points.astype(x.dtype) == x, axis=1) & (values.astype(value.dtype) == value)
        if not same.any():
            return x, value
        i = int(np.argmax(same))
        return points[i], values[i]


class _Later:
    """A future without an executor: it is evaluated when its result is asked for."""

    def __init__(self, result: Callable[[], Any]):
        self.result = result

    def cancel(self) -> bool:
        return True


def _scalar(returned) -> float:
    """A number, or an array with a single one; raises for what the algorithm cannot be told."""
    value = np.asarray(returned)
    if returned is None or value.dtype.kind in "cSU":  # of which NumPy makes floats
        raise TypeError(f"fun must return a real number, got {returned!r}.")
    value = value.astype(float)
    if value.size != 1:
        raise TypeError(f"fun must return a scalar, got shape {value.shape}.")
    value = value.item()
    with np.errstate(over="ignore"):
        if np.isfinite(value) and np.isinf(float_dtype().type(value)):
            raise OverflowError(f"fun returned {value:g}, beyond {float_dtype()}: scale it down.")
    return value


class _Programs(NamedTuple):
    """What is compiled. A tell and the ask that follows are one program: half the calls."""

    start: Callable  # (key, budget) -> packed state
    step: Callable  # (packed state, x, values, tells, asks) -> (x, packed state)
    inject: Callable  # (packed state, x, value) -> packed state
    end: Callable  # (packed state) -> (state, its best point, its value)
    shape: tuple[int, int]  # of x

    def ask(self, state: Packed) -> tuple[jax.Array, Packed]:
        x = np.zeros(self.shape, float_dtype())
        return self.step(state, x, x[:, 0], False, True)

    def tell(self, state: Packed, x, values) -> Packed:
        return self.step(state, x, values, True, False)[1]


@lru_cache(PROGRAMS)
def _compile(algorithm: Algorithm, space: Space) -> _Programs:
    def start(key, budget):
        return pack(first_state(algorithm, space, budget, key))

    def step(packed, x, values, tells, asks):
        state = unpack(packed)

        def tell(state):
            return algorithm.tell(space, state, x, values)

        def ask(state):
            return algorithm.ask(space, state)

        state = lax.cond(tells, tell, lambda state: state, state)
        x, state = lax.cond(asks, ask, lambda state: (x, state), state)
        return x, pack(state)

    def inject(packed, x, value):
        return pack(algorithm.inject(space, unpack(packed), x, value))

    def end(packed):
        state = unpack(packed)
        return state, *algorithm.best(state)

    programs = jax.jit(start, static_argnums=1), *map(jax.jit, (step, inject, end))
    return _Programs(*programs, (algorithm.batch_size, space.dimension))


def _begin(programs, log: _Log) -> None:
    """Tells of the points that were given, after evaluating them where their values are not known."""
    points, values = log.task.known_x, log.task.known_values
    if values is not None:
        if len(values):
            i = int(np.argmin(values))
            log.best, log.best_x = values[i], points[i]
            log.stop_at_target()
        _inject(programs, log, points, values)
        return
    samples = log.task.problem.algorithm.samples
    values = np.full((len(points), samples), np.inf)
    try:
        log.evaluate(np.repeat(points, samples, axis=0), values.reshape(-1))
    finally:  # what came before an interrupt counts
        begun = -(-len(log.values) // samples)
        _inject(programs, log, points[:begun], values[:begun].mean(axis=1))


def _inject(programs, log: _Log, points: np.ndarray, values: np.ndarray) -> None:
    for x, value in zip(points.astype(float_dtype()), values.astype(float_dtype()), strict=True):
        log.state = programs.inject(log.state, x, value)


def _in_batches(programs: _Programs, log: _Log) -> None:
    """Ask, evaluate the batch, tell."""
    more = log.goes_on
    if more:
        x, log.state = programs.ask(log.state)
    while more:
        values, more = np.full(len(x), np.inf), False
        try:
            log.evaluate(np.asarray(x), values)
            more = log.goes_on
        finally:  # what came before an interrupt counts
            x, log.state = programs.step(log.state, x, values.astype(float_dtype()), True, more)


def _as_completed(programs: _Programs, log: _Log) -> None:
    """Keeps as many evaluations running as the algorithm allows; each tells when it is done."""
    in_flight = log.task.problem.algorithm.in_flight
    while log.why is None and (log.left or log.pending):
        while len(log.pending) < in_flight and log.left:
            x, log.state = programs.ask(log.state)
            log.submit(np.asarray(x[0]))
        for future in wait(log.pending, return_when=FIRST_COMPLETED).done:
            x = log.pending[future]
            value = log.enter(future)
            log.state = programs.tell(log.state, x[None], np.asarray([value], float_dtype()))
