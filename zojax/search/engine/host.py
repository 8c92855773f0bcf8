"""A search on the host: ask, call, tell, with several calls at once in an executor."""

import warnings
from collections.abc import Callable
from concurrent.futures import Executor
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from zojax._failures import Failures
from zojax._numerics import float_dtype, warn_of_resolution
from zojax._scalars import host_scalar
from zojax.search._random import evaluation_key, split
from zojax.search.engine.host_programs import HostPrograms, State, host_programs
from zojax.search.engine.outcome import Outcome, mean_and_error, one_after_another, stopped_by
from zojax.search.engine.pending import Pending
from zojax.search.engine.task import SearchTask, keeps_points


def on_host(task: SearchTask, executor: Executor | None) -> Outcome:
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
    if failures.first is not None and not outcome.stopped:  # all of a small budget failed
        return outcome._replace(raised=failures.explained())
    return outcome


def _run(task: SearchTask, executor: Executor | None, failures: Failures, key: jax.Array):
    """(outcome, failures) of one run, also if an exception ended it."""
    algorithm = task.problem.algorithm
    loop = _as_completed if executor is not None and algorithm.in_flight > 1 else _in_batches
    programs = host_programs(algorithm, task.problem.space, task.problem.budget, key)
    log = _Log(task, key, programs.start(key), executor, failures)
    ended_by = _what_ends(log, partial(_begin, programs, log), partial(loop, programs, log))
    try:
        state, x, value = _finish(programs, log)
    except KeyboardInterrupt as error:
        ended_by = error
        state, x, value = _finish(programs, log)
    found = len(log.entries)
    if ended_by is None and not log.stopped:
        ended_by = _what_ends(log, partial(log.look_again, x))
    outcome = log.outcome(state, x, value, found)
    return outcome if ended_by is None else stopped_by(ended_by, outcome), log.failures


def _what_ends(log: "_Log", *parts: Callable[[], None]) -> BaseException | None:
    """Calls the parts of a run. An exception is returned, or raised if there is no evaluation yet."""
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


def _finish(programs: "HostPrograms", log: "_Log"):
    """(state, x, value): the last state, after all entries, and its recommendation."""
    _inject(programs, log)
    state, x, value = programs.end(log.state)
    return state, *log.as_evaluated(np.asarray(x), np.asarray(value))


class Entry(NamedTuple):
    """An evaluation. Its point is None once nothing needs it."""

    value: float
    x: np.ndarray | None


class _Log:
    """The evaluations of a run: it starts them, and enters their values.

    `entries` is the only record. An interrupt leaves an evaluation in it, or loses the evaluation. The
    algorithm knows the first `told` entries.
    """

    def __init__(
        self,
        task: SearchTask,
        key: jax.Array,
        state: State,
        executor: Executor | None,
        failures: Failures,
    ):
        self.task, self.state, self.failures = task, state, failures
        self.key = evaluation_key(key) if task.problem.with_key else None
        self.pending = Pending(executor, task.clock)
        self.entries: list[Entry] = []
        self.told, self.started, self.since = 0, 0, 0
        self.best = Entry(np.inf, None)
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
        """Starts an evaluation. Without an executor, it runs when it is entered."""
        problem = self.task.problem
        extra = {}
        if self.key is not None:
            extra["key"] = jax.random.fold_in(self.key, self.started)
        self.started += 1
        call = partial(problem.fun, problem.space.point(x), *self.task.args, **extra)
        future = self.pending.submit(x, call)
        if future is None and self.failures.count == 0 and not len(self.pending):
            self.pending.raise_refusal()
        return future

    def evaluate(self, rows: np.ndarray) -> np.ndarray:
        """Values of points, side by side in an executor; inf for points without an evaluation.

        These are points beyond the budget, and points that had not begun when the run stopped.
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
        """Enters an evaluation and checks whether to stop. Returns its value, inf if it failed."""
        value = self._value_of(future)
        entry = Entry(value, np.asarray(self.pending.pop(future)))
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
        error: Exception | None
        try:
            value, error = self.task.problem.sign * host_scalar(future.result()), None
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
        """Ends the search if the time is over while an executor still works."""
        clock = self.task.clock
        if self.why is None and clock is not None and len(self.pending) and clock.why_stop():
            self.why, self.stopped = clock.why_stop(), True

    def _why_stop(self) -> str | None:
        task = self.task
        if task.patience is not None and self.since >= task.patience:
            return f"no improvement for {task.patience} evaluations"
        if task.report is not None and self.best.x is not None:
            why = task.report(len(self.entries), self.best.x, self.best.value)
            self.stopped = why is not None
            return why
        return None

    def tell(self, state: State) -> None:
        """Takes a state that knows all entries."""
        kept = keeps_points(self.task.problem)
        for i in range(self.told, len(self.entries)):
            if not kept and self.entries[i] is not self.best:
                self.entries[i] = self.entries[i]._replace(x=None)
        self.state, self.told = state, len(self.entries)

    def look_again(self, x: np.ndarray) -> None:
        """Repeats the recommended point for the reserved evaluations, however the run ended."""
        why, self.why = self.why, None
        self.task = self.task._replace(target=None, patience=None)
        self.limit = self.started + self.task.reserve
        self.evaluate(np.repeat(x[None], self.task.reserve, axis=0))
        self.why = self.why or why

    def outcome(self, state: Any, x: np.ndarray, value: float, found: int) -> Outcome:
        """The run's outcome. The first `found` entries led to x, and the others repeat x."""
        problem = self.task.problem
        values = np.asarray([entry.value for entry in self.entries], np.float64)
        value, error = mean_and_error(values[found:], otherwise=value)
        points = None
        if keeps_points(problem):
            rows = [entry.x for entry in self.entries if entry.x is not None]
            points = [np.reshape(rows, (len(values), problem.space.dimension))]
        warn_of_resolution(values)  # the algorithm knows them rounded
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
        """The recommendation before rounding: the point and the value of its evaluation.

        Different values may round to the same value. Without noise, the least of them counts.
        """
        problem, task = self.task.problem, self.task
        found = [(entry.x, entry.value) for entry in self.entries if entry.x is not None]
        if task.starts.values is not None:
            found = [*zip(task.starts.x, task.starts.values.tolist(), strict=True), *found]
        values = np.array([v for _, v in found])
        alike = np.flatnonzero(values.astype(value.dtype) == value).tolist()
        if problem.is_noisy or not problem.algorithm.stays_inside:
            alike = [i for i in alike if np.all(found[i][0].astype(x.dtype) == x)]
        if not len(alike):
            return x, float(value)
        return found[min(alike, key=lambda i: values[i])]


def _out_of_range(value: float) -> OverflowError | None:
    """The error of a number beyond the algorithm's floats, or None."""
    with np.errstate(over="ignore"):
        if np.isfinite(value) and np.isinf(float_dtype().type(value)):
            return OverflowError(f"fun returned {value:g}, beyond {float_dtype()}: scale it down.")
    return None


def _begin(programs: HostPrograms, log: _Log) -> None:
    """Injects the given points, after evaluating them if their values are unknown."""
    points, values = log.task.starts.x, log.task.starts.values
    if values is None:
        log.evaluate(np.repeat(points, log.task.problem.algorithm.samples, axis=0))
        _inject(programs, log)
        return
    if len(values):
        i = int(np.argmin(values))
        log.best = Entry(values[i], points[i])
        log.stop_at_target()
    for x, value in zip(points, values, strict=True):
        log.state = _injected(programs, log.state, x, value)


def _inject(programs: HostPrograms, log: _Log) -> None:
    """Injects all entries that were not told: given points, and the last ones before an interrupt."""
    samples, state = log.task.problem.algorithm.samples, log.state
    new = log.entries[log.told :]
    for i in range(0, len(new) - samples + 1, samples):
        same = new[i : i + samples]
        x = same[0].x
        if x is not None and all(np.array_equal(x, e.x) for e in same if e.x is not None):
            state = _injected(programs, state, x, float(np.mean([e.value for e in same])))
    log.tell(state)


def _injected(programs: HostPrograms, state: State, x: np.ndarray, value: float) -> State:
    return programs.inject(state, x.astype(float_dtype()), float_dtype().type(value))


def _in_batches(programs: HostPrograms, log: _Log) -> None:
    """Ask, evaluate the batch, tell."""
    more = log.goes_on
    if more:
        x, log.state = programs.ask(log.state)
    while more:
        values = log.evaluate(np.asarray(x)).astype(float_dtype())
        more = log.goes_on
        x, state = programs.step(log.state, x, values, more)
        log.tell(state)


def _as_completed(programs: HostPrograms, log: _Log) -> None:
    """Keeps as many evaluations in flight as the algorithm allows, and tells each one at its end."""
    in_flight = log.task.problem.algorithm.in_flight
    while True:
        while len(log.pending) < in_flight and log.goes_on:
            x, log.state = programs.ask(log.state)
            log.submit(np.asarray(x[0]))
        future = log.pending.next_done(wait=log.why is None)
        if future is None:
            return log.stop_in_time()
        point = log.pending.points[future]
        value = log.enter(future)
        log.tell(programs.tell(log.state, point[None], np.asarray([value], float_dtype())))
