"""A search on the host: ask, call, tell; several calls at once with an executor."""

import warnings
from collections.abc import Callable
from concurrent.futures import Executor
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import lax

from zojax._call import PROGRAMS
from zojax._checks import brief
from zojax._failures import Failures
from zojax._numerics import float_dtype, warn_of_resolution
from zojax.search._random import evaluation_key, split
from zojax.search.algorithms._algorithm import Algorithm
from zojax.search.engine.packed import Packed, pack, unpack
from zojax.search.engine.pending import Pending
from zojax.search.engine.task import (
    Outcome,
    Task,
    first_state,
    keeps_points,
    mean_and_error,
    one_after_another,
    stopped_by,
)
from zojax.search.spaces import Space


def on_host(task: Task, executor: Executor | None) -> Outcome:
    """Runs the task, one run after the other."""
    failures = Failures(task.catch)

    def run(key: jax.Array) -> Outcome:
        nonlocal failures
        outcome, failures = _run(task, executor, failures, key)
        return outcome

    if task.problem.runs == 1:
        outcome = run(task.key)
    else:
        outcome = one_after_another(run, split(task.key, task.problem.runs))
    if failures.first is not None and not outcome.stopped:  # a budget too small for `is_fatal`
        return outcome._replace(raised=failures.explained())
    return outcome


def _run(task: Task, executor: Executor | None, failures: Failures, key: jax.Array):
    """(outcome, failures) of one run, with all that it found before something ended it."""
    algorithm = task.problem.algorithm
    loop = _as_completed if executor is not None and algorithm.in_flight > 1 else _in_batches
    programs = _compile(algorithm, task.problem.space)
    log = _Log(task, key, programs.start(key, task.problem.budget), executor, failures)
    ended_by = _what_ends(log, partial(_begin, programs, log), partial(loop, programs, log))
    try:
        recommended = _finish(programs, log)
    except KeyboardInterrupt as error:
        ended_by, recommended = error, _finish(programs, log)
    found = len(log.entries)
    if ended_by is None and not log.stopped:
        ended_by = _what_ends(log, partial(log.look_again, recommended[1]))
    outcome = log.outcome(*recommended, found)
    return outcome if ended_by is None else stopped_by(ended_by, outcome), log.failures


def _what_ends(log: "_Log", *parts: Callable[[], None]) -> BaseException | None:
    """Runs the parts of a run. The exception that ends them is raised before the first evaluation alone."""
    try:
        for part in parts:
            part()
    except BaseException as error:
        if not log.entries:
            raise
        return error
    finally:
        log.pending.cancel()
    return None


def _finish(programs: "_Programs", log: "_Log"):
    """(state, x, value): the last state and its recommendation, from all entries."""
    _inject(programs, log)
    state, x, value = programs.end(log.state)
    return state, *log.as_evaluated(np.asarray(x), np.asarray(value))


class _Entry(NamedTuple):
    """An evaluation; its point where it is needed still."""

    value: float
    x: np.ndarray | None


class _Log:
    """Calls the function and remembers what came out: as a run goes.

    `entries` are the truth: an interrupt finds an evaluation among them, or not at all. The algorithm knows
    the first `told` of them.
    """

    def __init__(
        self,
        task: Task,
        key: jax.Array,
        state: Packed,
        executor: Executor | None,
        failures: Failures,
    ):
        self.task, self.state, self.failures = task, state, failures
        self.key = evaluation_key(key) if task.problem.with_key else None
        self.pending = Pending(executor, task.clock)
        self.entries: list[_Entry] = []
        self.told, self.started, self.since = 0, 0, 0
        self.best = _Entry(np.inf, None)
        self.limit = task.problem.budget
        self.why: str | None = None
        self.stopped = False
        self.failure: str | None = None

    @property
    def left(self) -> int:
        return self.limit - self.started

    @property
    def goes_on(self) -> bool:
        return self.why is None and self.pending.lost is None and self.left > 0

    def submit(self, x: np.ndarray):
        """Starts an evaluation; without an executor it waits until it is entered."""
        problem = self.task.problem
        extra = {}
        if problem.with_key:
            extra["key"] = jax.random.fold_in(self.key, self.started)
        self.started += 1
        call = partial(problem.fun, problem.space.point(x), *self.task.args, **extra)
        future = self.pending.submit(x, call)
        if future is None and self.failures.count == 0 and not len(self.pending):
            self.pending.raise_refusal()
        return future

    def evaluate(self, rows: np.ndarray) -> np.ndarray:
        """Values of points, by an executor side by side; inf where there are none.

        Left out are points beyond the budget, and those that have not begun when the run is to stop.
        """
        values = np.full(len(rows), np.inf)
        futures = []
        for row in rows[: self.left]:
            if self.pending.lost is None:
                futures.append(self.submit(row))
        for i, future in enumerate(futures):
            if self.why is not None and future in self.pending:
                self.pending.drop(future, running=self.stopped)
            if self.pending.wait_for(future):
                values[i] = self.enter(future)
            self.stop_in_time()
        return values

    def enter(self, future) -> float:
        """The value of an evaluation, inf if it failed; checks whether to stop."""
        value = self._value_of(future)
        entry = _Entry(value, np.asarray(self.pending.pop(future)))
        self.entries.append(entry)
        self.since = 0 if value < self.best.value else self.since + 1
        if value < self.best.value or self.best.x is None:
            self.best = entry
        if self.failures.is_fatal:
            raise self.failures.explained()
        self.stop_at_target()
        self.why = self.why or self._why_stop()
        return value

    def _value_of(self, future) -> float:
        try:
            value, error = self.task.problem.sign * _scalar(future.result()), None
        except Exception as raised:
            value, error = np.inf, raised
        self.failures = self.failures.of(error)
        if error is None:
            error = _out_of_range(value)
        if error is not None and self.failure is None:
            warnings.warn(f"an evaluation failed and counts as inf: {error!r}", stacklevel=2)
            self.failure = f"{type(error).__name__}: {error}"
        return value if error is None and np.isfinite(value) else np.inf

    def stop_at_target(self) -> None:
        if self.task.target is not None and self.best.value <= self.task.target:
            self.why = self.why or "target reached"

    def stop_in_time(self) -> None:
        """Ends the search where the time is over before an executor has done its work."""
        clock = self.task.clock
        if self.why is None and clock is not None and len(self.pending) and clock.why_stop():
            self.why, self.stopped = clock.why_stop(), True

    def _why_stop(self) -> str | None:
        task = self.task
        if task.patience is not None and self.since >= task.patience:
            return f"no improvement for {task.patience} evaluations"
        if task.report is not None:
            why = task.report(len(self.entries), self.best.x, self.best.value)
            self.stopped = why is not None
            return why
        return None

    def tell(self, state: Packed) -> None:
        """`state` knows all entries."""
        kept = keeps_points(self.task.problem)
        for i in range(self.told, len(self.entries)):
            if not kept and self.entries[i] is not self.best:
                self.entries[i] = self.entries[i]._replace(x=None)
        self.state, self.told = state, len(self.entries)

    def look_again(self, x: np.ndarray) -> None:
        """Evaluates the recommended point as often as was reserved for it, whatever ended the run."""
        why, self.why = self.why, None
        self.task = self.task._replace(target=None, patience=None)
        self.limit = self.started + self.task.reserve
        self.evaluate(np.repeat(x[None], self.task.reserve, axis=0))
        self.why = self.why or why

    def outcome(self, state: Any, x: np.ndarray, value: float, found: int) -> Outcome:
        """The run's outcome. Its first `found` entries led to x, and the others are of x."""
        problem = self.task.problem
        values = np.asarray([entry.value for entry in self.entries], np.float64)
        value, error = mean_and_error(values[found:], otherwise=value)
        points = None
        if keeps_points(problem):
            rows = [entry.x for entry in self.entries]
            points = [np.reshape(rows, (len(values), problem.space.dimension))]
        warn_of_resolution(values)  # the algorithm was told them rounded
        return Outcome(
            x=x[None],
            value=np.array([float(value)]),
            value_error=np.array([error]) if problem.is_noisy else None,
            values=[values],
            points=points,
            state=state,
            message=self.why or self.pending.lost or "budget spent",
            stopped=self.stopped or self.pending.lost is not None,
            failure=self.failure,
        )

    def as_evaluated(self, x: np.ndarray, value: np.ndarray) -> tuple[np.ndarray, float]:
        """The recommendation as the function saw it, and its value: the algorithm knows both rounded.

        Values that differ may be the same to the algorithm; without noise the least of them counts.
        """
        problem, task = self.task.problem, self.task
        entries = [entry for entry in self.entries if entry.x is not None]
        if task.known_values is not None:
            entries = [*map(_Entry, task.known_values, task.known_x), *entries]
        values = np.array([entry.value for entry in entries])
        alike = np.flatnonzero(values.astype(value.dtype) == value)
        if problem.is_noisy or not problem.algorithm.stays_inside:
            alike = [i for i in alike if np.all(entries[i].x.astype(x.dtype) == x)]
        if not len(alike):
            return x, float(value)
        best = entries[min(alike, key=lambda i: values[i])]
        return best.x, float(best.value)


def _scalar(returned) -> float:
    """A number, or an array with a single one; raises for all else."""
    try:
        value = np.asarray(returned)
        # Of None, and of these kinds, NumPy makes floats.
        is_real = returned is not None and value.dtype.kind not in "cSU"
        value = value.astype(float) if is_real else None
    except (TypeError, ValueError):
        value = None
    if value is None:
        raise TypeError(f"fun must return a real number, got {brief(returned)}.")
    if value.size != 1:
        raise TypeError(f"fun must return a scalar, got shape {value.shape}.")
    return value.item()


def _out_of_range(value: float) -> OverflowError | None:
    """What is wrong with a number that the algorithm's floats cannot hold."""
    with np.errstate(over="ignore"):
        if np.isfinite(value) and np.isinf(float_dtype().type(value)):
            return OverflowError(f"fun returned {value:g}, beyond {float_dtype()}: scale it down.")
    return None


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


def _begin(programs: _Programs, log: _Log) -> None:
    """Tells of the points that were given, after evaluating them where their values are not known."""
    points, values = log.task.known_x, log.task.known_values
    if values is None:
        log.evaluate(np.repeat(points, log.task.problem.algorithm.samples, axis=0))
        _inject(programs, log)
        return
    if len(values):
        i = int(np.argmin(values))
        log.best = _Entry(values[i], points[i])
        log.stop_at_target()
    for x, value in zip(points, values, strict=True):
        log.state = _injected(programs, log.state, x, value)


def _inject(programs: _Programs, log: _Log) -> None:
    """Gives the algorithm all entries that it was not told: given points, and those before an interrupt."""
    samples, state = log.task.problem.algorithm.samples, log.state
    new = log.entries[log.told :]
    for i in range(0, len(new) - samples + 1, samples):
        same = new[i : i + samples]
        if all(np.array_equal(entry.x, same[0].x) for entry in same):
            state = _injected(programs, state, same[0].x, np.mean([e.value for e in same]))
    log.tell(state)


def _injected(programs: _Programs, state: Packed, x: np.ndarray, value: float) -> Packed:
    return programs.inject(state, x.astype(float_dtype()), float_dtype().type(value))


def _in_batches(programs: _Programs, log: _Log) -> None:
    """Ask, evaluate the batch, tell."""
    more = log.goes_on
    if more:
        x, log.state = programs.ask(log.state)
    while more:
        values = log.evaluate(np.asarray(x)).astype(float_dtype())
        more = log.goes_on
        x, state = programs.step(log.state, x, values, True, more)
        log.tell(state)


def _as_completed(programs: _Programs, log: _Log) -> None:
    """Keeps as many evaluations running as the algorithm allows; each tells when it is done."""
    in_flight = log.task.problem.algorithm.in_flight
    while True:
        while len(log.pending) < in_flight and log.goes_on:
            x, log.state = programs.ask(log.state)
            log.submit(np.asarray(x[0]))
        future = log.pending.next_done(wait=log.why is None)
        if future is None:
            return log.stop_in_time()
        x = log.pending.points[future]
        value = log.enter(future)
        log.tell(programs.tell(log.state, x[None], np.asarray([value], float_dtype())))
