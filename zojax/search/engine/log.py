"""The evaluations of one run on the host: what was started, what it returned, and why the run ends."""

import warnings
from concurrent.futures import Executor
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from zojax._failures import Failures
from zojax._numerics import warn_of_resolution
from zojax._scalars import host_scalar
from zojax.search._random import evaluation_key
from zojax.search.engine.host_programs import State
from zojax.search.engine.outcome import Outcome, mean_and_error
from zojax.search.engine.pending import Pending
from zojax.search.engine.task import SearchTask, keeps_points


class Entry(NamedTuple):
    """An evaluation. Its point is None once nothing needs it."""

    value: float
    x: np.ndarray | None


class Log:
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
        dtype: np.dtype,
    ):
        self.task, self.state, self.failures, self.dtype = task, state, failures, dtype
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
        with np.errstate(over="ignore"):
            overflows = np.isfinite(value) and np.isinf(self.dtype.type(value))
        if error is None and overflows:
            error = OverflowError(f"fun returned {value:g}, beyond {self.dtype}: scale it down.")
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
        warn_of_resolution(values, self.dtype)  # the algorithm knows them rounded
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
