"""The evaluations of one run on the host: what was started, what it returned, and why the run ends."""

from concurrent.futures import Executor
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from zojax._evaluation import SECONDS, Evaluation, Evaluator
from zojax._failures import Failures
from zojax._numerics import warn_of_resolution
from zojax._scalars import host_values, is_finite
from zojax._warnings import warn
from zojax.search._random import evaluation_key
from zojax.search.engine.calls import Callee
from zojax.search.engine.evaluation import Batch, Entry, pair_of
from zojax.search.engine.host_programs import State
from zojax.search.engine.journal import RunJournal
from zojax.search.engine.outcome import Notes, Outcome, mean_and_error
from zojax.search.engine.task import SearchTask, keeps_points
from zojax.search.pruners import Pruned

if TYPE_CHECKING:
    from zojax.search.engine.reports import Reports


class Asked(NamedTuple):
    """The number of an evaluation, and its point (d,)."""

    number: int
    x: np.ndarray


class Log:
    """The evaluations of a run: it starts them, and enters their values.

    `entries` is the only record. An interrupt leaves an evaluation in it, or loses the evaluation. The
    algorithm knows the first `told` entries. A journal gets each evaluation as it ends, and gives back
    those of an earlier process. `results` has the evaluations that ended and were not entered.
    """

    def __init__(
        self,
        task: SearchTask,
        key: jax.Array,
        state: State,
        executor: Executor | None,
        failures: Failures,
        callee: Callee,
        dtype: np.dtype,
        reports: "Reports | None" = None,
        journal: RunJournal | None = None,
    ):
        self.task, self.state, self.failures, self.reports = task, state, failures, reports
        self.callee, self.dtype = callee, dtype
        self.key = evaluation_key(key) if task.problem.with_key else None
        self.journal = journal
        self.evaluator = Evaluator(
            executor,
            timeout=task.timeout,
            retries=task.retries,
            final=(*task.catch, Pruned),
            end=np.inf if task.clock is None else task.clock.end,
            arrived=self._arrived,
        )
        self.call = self.evaluator.call(callee.fun, tuple(task.args))
        self.entries: list[Entry] = []
        self.results: dict[Evaluation, Entry] = {}
        self.told, self.started, self.since = 0, 0, 0
        self.earlier: Entry | None = None  # the best evaluation before this search
        self.failed = np.full(task.problem.value_shape, np.inf)[()]  # the value of a failure
        self.best = Entry(self.failed, None)
        self.recommended: tuple[np.ndarray, int] | None = None  # and the number of entries before
        self.limit = task.problem.budget
        self.why: str | None = None
        self.stopped = False
        self.failure: str | None = None

    @property
    def left(self) -> int:
        return self.limit - self.started

    @property
    def goes_on(self) -> bool:
        return self.why is None and self.evaluator.lost is None and self.left > 0

    def submit(self, rows: np.ndarray) -> list[Evaluation]:
        """Evaluations, which begin when one of them is waited for."""
        numbers = range(self.started, self.started + len(rows))
        self.started += len(rows)
        about = [Asked(number, x) for number, x in zip(numbers, rows, strict=True)]
        if self.journal is None:
            return self._submitted(about)
        known = [self.journal.entry(*asked) for asked in about]
        unknown = [a for a, entry in zip(about, known, strict=True) if entry is None]
        new = iter(self._submitted(unknown))
        return [
            next(new) if entry is None else self._know(asked, entry)
            for asked, entry in zip(about, known, strict=True)
        ]

    def _know(self, asked: Asked, entry: Entry) -> Evaluation:
        """Takes an evaluation from the journal."""
        evaluation = self.evaluator.add_known(asked)
        self.results[evaluation] = entry
        if entry.error is None:
            self.failures = self.failures.of(None)
        self.failure = self.failure or entry.error
        return evaluation

    def _submitted(self, about: list[Asked]) -> list[Evaluation]:
        """An evaluation for each. Those of a batch share one call of `fun`."""
        problem, task, submit = self.task.problem, self.task, self.evaluator.submit
        if not about:
            return []
        extras: list[dict[str, Any]] = [{} for _ in about]
        for extra, (number, _) in zip(extras, about, strict=True):
            if self.key is not None:
                extra["key"] = jax.random.fold_in(self.key, number)
            if self.reports is not None:
                extra["report"] = self.reports.of(number)
        if not task.batched:
            return [
                submit(asked, self.call, self.callee.point(asked.x), **extra)
                for asked, extra in zip(about, extras, strict=True)
            ]
        keys = {} if self.key is None else {"key": jnp.stack([extra["key"] for extra in extras])}
        call = partial(self.call, self.callee.point(np.stack([a.x for a in about])), **keys)
        batch = Batch(call, (len(about), *problem.value_shape), task.has_aux)
        return [submit(asked, batch.row, i) for i, asked in enumerate(about)]

    def next_done(self):
        """A finished evaluation, first those of the journal in its order; None if waiting ends before."""
        if self.journal is not None:
            known = {evaluation.about.number: evaluation for evaluation in self.results}
            number = self.journal.next_told(known)
            if number is not None:
                return known[number]
        return self.evaluator.next_done(wait=self.why is None)

    def evaluate(self, rows: np.ndarray) -> np.ndarray:
        """Values of points, side by side in an executor; inf for points without an evaluation.

        These are points beyond the budget, and points that had not begun when the run stopped.
        """
        values = np.array([self.failed] * len(rows))
        evaluations = self.submit(rows[: self.left])
        if self.task.batched and self.why is None:  # one call evaluates them all
            for evaluation in evaluations:
                self.evaluator.wait_for(evaluation)
        for i, evaluation in enumerate(evaluations):
            is_pending = evaluation in self.evaluator and evaluation not in self.results
            if self.why is not None and is_pending:
                self.evaluator.drop(evaluation, running=self.stopped)
            if self.evaluator.wait_for(evaluation):
                values[i] = self.enter(evaluation)
            self.stop_in_time()
        return values

    def enter(self, evaluation: Evaluation) -> Any:
        """Enters an evaluation and checks whether to stop. Returns its value, inf if it failed."""
        entry = self.results.pop(evaluation, None) or self._record(evaluation)
        self.evaluator.pop(evaluation)
        value = entry.value
        self.entries.append(entry)
        improves = self._improves(entry)
        self.since = 0 if improves else self.since + 1
        if improves or self.best.x is None:
            self.best = self._joined(entry)
        if self.failures.is_fatal:
            raise self.failures.explained()
        self.stop_at_target()
        self.why = self.why or self._why_stop()
        return value

    def _improves(self, entry: Entry) -> bool:
        """Whether an entry is better than the best one, or, with several objectives, in the front.

        A complete evaluation is better than a pruned one.
        """
        if entry.pruned != self.best.pruned:
            return self.best.pruned
        problem = self.task.problem
        if not problem.is_front:
            return problem.score(entry.value) < problem.score(self.best.value)
        return not np.any(np.all(self.best.value <= entry.value, axis=-1))

    def _joined(self, entry: Entry) -> Entry:
        """The new best entry; with several objectives, the front after it: values (n, m), points (n, d)."""
        x: Any = self.best.x
        values, new = self.best.value, np.asarray(entry.x)[None]
        if not self.task.problem.is_front:
            return entry
        if x is None:
            return Entry(entry.value[None], new)
        stays = ~np.all(entry.value <= values, axis=1)
        return Entry(np.vstack([values[stays], entry.value]), np.vstack([x[stays], new]))

    def _arrived(self, evaluation: Evaluation) -> None:
        """Records an evaluation that ended while this one or another is waited for."""
        self.results[evaluation] = self._record(evaluation)

    def _record(self, evaluation: Evaluation) -> Entry:
        """The entry of an evaluation that has ended, which the journal then has."""
        value, error, attributes, seconds, pruned = self.failed, None, None, np.nan, False
        try:
            try:
                returned, seconds = evaluation.result()
            except Pruned as early:
                returned, seconds, pruned = early.value, getattr(early, SECONDS, np.nan), True
            if self.task.has_aux and not pruned:
                returned, attributes = pair_of(returned)
            value = self.task.problem.signed(host_values(returned, np.shape(self.failed)))
        except Exception as raised:
            error, seconds = raised, getattr(raised, SECONDS, seconds)
        text = self._checked(value, error)
        value = value if text is None and is_finite(value) else self.failed
        number, x = evaluation.about
        entry = Entry(value, np.asarray(x), text, seconds, attributes, pruned=pruned)
        if self.journal is not None:
            self.journal.write(number, entry, self.reports.take(number) if self.reports else [])
        return entry

    def _checked(self, value: Any, error: Exception | None) -> str | None:
        """The error as text, which is counted and, the first time, a warning."""
        self.failures = self.failures.of(error)
        if error is None and self.dtype != float and self._overflows(value):
            error = OverflowError(f"fun returned {value}, beyond {self.dtype}: scale it down.")
        if error is None:
            return None
        if self.failure is None:
            warn(f"an evaluation failed and counts as inf: {error!r}")
        text = f"{type(error).__name__}: {error}"
        self.failure = self.failure or text
        return text

    def _overflows(self, value: Any) -> bool:
        with np.errstate(over="ignore"):
            return (np.isfinite(value) & np.isinf(self.dtype.type(value))).any()

    def stop_at_target(self) -> None:
        target, score = self.task.target, self.task.problem.score
        if target is not None and score(self.best.value) <= target:
            self.why = self.why or "target reached"

    def stop_in_time(self) -> None:
        """Ends the search if the time is over while an executor still works."""
        clock = self.task.clock
        if self.why is None and clock is not None and len(self.evaluator) and clock.why_stop():
            self.why, self.stopped = clock.why_stop(), True

    def _why_stop(self) -> str | None:
        task = self.task
        if task.patience is not None and self.since >= task.patience:
            return f"no improvement for {task.patience} evaluations"
        shown = self._shown()
        if task.report is not None and shown.x is not None:
            value = task.problem.score(shown.value)
            why = task.report(len(self.entries), shown.x, value, self.entries[-1])
            self.stopped = why is not None
            return why
        return None

    def _shown(self) -> Entry:
        """The best entry; the recommended point with its mean, once that is evaluated again."""
        if self.recommended is None:
            return self.best
        x, found = self.recommended
        values = np.array([entry.value for entry in self.entries[found:]])
        return Entry(mean_and_error(values, otherwise=float(values[0]))[0], x)

    def tell(self, state: State) -> None:
        """Takes a state that knows all entries."""
        new = () if self._keeps_points() else range(self.told, len(self.entries))
        for i in new:
            if self.entries[i] is not self.best:
                self.entries[i] = self.entries[i]._replace(x=None)
        self.state, self.told = state, len(self.entries)

    def _keeps_points(self) -> bool:
        problem = self.task.problem
        # Without a budget, the length is not known before.
        expected = max(min(problem.budget, problem.planned), len(self.entries))
        return keeps_points(problem, expected)

    def look_again(self, x: np.ndarray) -> None:
        """Repeats the recommended point for the reserved evaluations, however the run ended."""
        why, self.why = self.why, None
        self.task = self.task._replace(target=None, patience=None)
        if self.reports is not None:
            self.reports.is_open = False
        self.limit = self.started + self.task.reserve
        self.recommended = x, len(self.entries)
        self.evaluate(np.repeat(x[None], self.task.reserve, axis=0))
        self.why = self.why or why

    def outcome(self, state: Any, x: np.ndarray, value: Any, found: int) -> Outcome:
        """The run's outcome. The first `found` entries led to x, and the others repeat x."""
        problem = self.task.problem
        values = np.asarray([entry.value for entry in self.entries], np.float64)
        value, error = mean_and_error(values[found:], otherwise=value)
        points = None
        rows = [entry.x for entry in self.entries if entry.x is not None]
        if len(rows) == len(values):
            points = [np.reshape(rows, (len(values), problem.space.dimension))]
        for column in np.atleast_2d(problem.score(values).T):
            warn_of_resolution(column, self.dtype)  # the algorithm knows them rounded
        return Outcome(
            x=x.reshape(-1, problem.space.dimension),
            value=np.reshape(value, (-1, *problem.value_shape) if problem.is_front else -1),
            value_error=np.array([error]) if problem.is_noisy else None,
            values=[values],
            pruned=[np.array([entry.pruned for entry in self.entries], bool)],
            points=points,
            state=state,
            message=self.why or self.evaluator.lost or "budget spent",
            stopped=self.stopped or self.evaluator.lost is not None,
            failure=self.failure,
            notes=[Notes(self.entries, self.task.has_aux)],
        )

    def as_evaluated(self, x: np.ndarray, value: np.ndarray) -> tuple[np.ndarray, Any]:
        """The recommendation before rounding: the point and the value of its evaluation.

        Different values may round to the same value. Without noise, the least of them counts. A front is
        returned as it is. If evaluations were pruned, the best complete one is recommended.
        """
        problem, task = self.task.problem, self.task
        if problem.is_front or not np.isfinite(value):
            return x, value
        if any(entry.pruned for entry in self.entries) and self.best.x is not None:
            return self.best.x, self.best.value
        entries = self.entries if self.earlier is None else [self.earlier, *self.entries]
        found = [(e.x, problem.score(e.value)) for e in entries if e.x is not None]
        if task.starts.values is not None:
            found = [*zip(task.starts.x, task.starts.values.tolist(), strict=True), *found]
        values = np.array([v for _, v in found])
        alike = np.flatnonzero(values.astype(value.dtype) == value).tolist()
        if problem.is_noisy or not problem.algorithm.stays_inside:
            alike = [i for i in alike if np.all(found[i][0].astype(x.dtype) == x)]
        if not len(alike):
            return x, float(value)
        return found[min(alike, key=lambda i: values[i])]
