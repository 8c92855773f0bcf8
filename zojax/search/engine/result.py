"""Results of a search, and the progress that callbacks see."""

from typing import Any, NamedTuple

import jax
import numpy as np

from zojax._keys import as_key
from zojax._trees import PyTree
from zojax.search.engine.columns import Column, columns_of
from zojax.search.engine.constrained import ConstrainedState
from zojax.search.engine.evaluation import Entry, Trial
from zojax.search.engine.frame import frame_of
from zojax.search.engine.front import Front
from zojax.search.engine.importance import importance_in
from zojax.search.engine.once import OnceState
from zojax.search.engine.outcome import Notes, Outcome
from zojax.search.engine.plots import plot_importance, plot_parallel, plot_result
from zojax.search.engine.task import Problem, SearchState, SearchTask
from zojax.search.spaces import Space


@jax.tree_util.register_pytree_node_class
class History:
    """Every evaluation of a run, in order.

    Attributes:
      values: (evaluations,) float64, inf where an evaluation failed or a constraint is violated (-inf when
        maximizing).
      best_values: (evaluations,) float64, the best value so far.
      points: the user's pytree with a leading axis of evaluations; None above 2^26 numbers.
      pruned: (evaluations,) bool, which ended early. Their values are the last reported ones, and do not
        count as the best so far.
      violations: (evaluations,) float64, the largest violation of a constraint, 0 for feasible points; None
        without constraints.
      seconds: (evaluations,) float64, the duration of each call; nan if the whole search is compiled.
      errors: the exceptions of failed evaluations as text, by their places; of a host function.
      attributes: the second result of each call with `has_aux`, else None.
    """

    def __init__(
        self,
        values: np.ndarray,
        best_values: np.ndarray,
        points: PyTree,
        pruned: np.ndarray,
        notes: Notes | None = None,
        violations: np.ndarray | None = None,
    ):
        self.values, self.best_values, self.pruned = values, best_values, pruned
        self.violations = violations
        self._points, self._notes = points, notes or Notes([], has_aux=False)
        self._decoded: PyTree = None
        self._columns: list[Column] | None = None

    @property
    def points(self) -> PyTree:
        """The user's pytree with a leading axis of evaluations, or None."""
        if not isinstance(self._points, EncodedPoints):
            return self._points
        # Decoded on first use: for many coordinates, decoding takes longer than the search.
        if self._decoded is None:
            self._decoded = self._points.space.point(self._points.rows)
        return self._decoded

    @property
    def columns(self) -> list[Column]:
        """The points as a table: a `Column` with label and values for each variable."""
        if isinstance(self._points, EncodedPoints):
            return columns_of(self._points.space, self._points.rows)
        if self._columns is None:
            raise ValueError("history must hold points: a search keeps up to 2^26 numbers of them.")
        return self._columns

    @property
    def seconds(self) -> np.ndarray:
        """The duration of each call of a host function, nan if unknown."""
        known = self._notes.seconds
        return known if len(known) else np.full(len(self.values), np.nan)

    @property
    def errors(self) -> dict[int, str]:
        """The exceptions of failed evaluations as text, by their places."""
        return self._notes.errors

    @property
    def attributes(self) -> list | None:
        """The second result of each call with `has_aux`, or None."""
        return self._notes.attributes

    def __repr__(self) -> str:
        return f"History(values={self.values}, best_values={self.best_values}, points=...)"

    def __getstate__(self) -> dict:
        points = self.points
        columns = self._columns if points is self._points else self.columns
        return vars(self) | {"_points": points, "_decoded": None, "_columns": columns}

    def tree_flatten(self):
        children = self.values, self.best_values, self.points, self.pruned, self.violations
        return children, self._notes

    @classmethod
    def tree_unflatten(cls, aux, children) -> "History":
        values, best_values, points, pruned, violations = children
        return cls(values, best_values, points, pruned, aux, violations)


class EncodedPoints:
    """The points of a history before their first use."""

    def __init__(self, space: Space, rows: np.ndarray):
        # A copy, where the view would keep a much larger array alive.
        whole = rows.base if isinstance(rows.base, np.ndarray) else rows
        self.space, self.rows = space, rows if whole.nbytes <= 2 * rows.nbytes else rows.copy()


class SearchResult(NamedTuple):
    """The result of a search. Of several runs, the best one.

    Attributes:
      best: the best point, as the user's pytree.
      best_value: its value. For a noisy search, the mean of fresh evaluations of `best`.
      best_error: the standard error of that mean. None if the search does not count as noisy. nan if it
        ended before these evaluations; `best_value` is then the algorithm's own estimate.
      history: of the best run.
      evaluations: of all runs together, without the points of `init_values`.
      failures: evaluations that raised an exception or were not finite.
      message: why the search ended.
      run_values: (repeats,) the best value of each run; fewer if the search was stopped. With noise, their
        minimum, `best_value`, is slightly too good.
      state: the algorithm's last state, with a leading axis of runs if repeats > 1.
      search_state: what `minimize(..., state=...)` needs to go on.
      key: the key of the search: as given, or the int that was drawn.
      runs: the history of each run.
      violation: the largest violation of a constraint at `best`, 0 if it is feasible; None without
        constraints.
    """

    best: PyTree
    best_value: float
    best_error: float | None
    history: History
    evaluations: int
    failures: int
    message: str
    run_values: np.ndarray
    state: Any
    search_state: SearchState
    key: int | jax.Array
    runs: tuple[History, ...]
    violation: float | None = None

    def __str__(self) -> str:
        error = "" if self.best_error is None else f" +- {self.best_error:.2g}"
        return f"best value {self.best_value:.6g}{error} at {self.best}\n{self._ending()}"

    def _ending(self) -> str:
        failed = f" ({self.failures} failed)" if self.failures else ""
        key = f" (key {self.key})" if isinstance(self.key, int) else ""
        return f"{self.evaluations} evaluations{failed}: {self.message}{key}"

    def plot(self, ax: Any = None) -> Any:
        """Plots all values and the best so far against evaluations; of several runs, see `plot_history`.

        Needs matplotlib, as all plots do. Returns the axes.
        """
        return plot_result(self, ax)

    def importance(self) -> dict[str, float]:
        """The share of the variance of the values' ranks that each variable explains, largest first.

        The Kruskal-Wallis effect size eta^2 = (H - k + 1) / (n - k) over k groups of the n evaluations: the
        variable's values, or its deciles. It is 0 for fewer than ten evaluations. Each variable counts
        alone, so the shares need not add up to 1, and interactions do not show. A search gathers where
        values are good: use `random_search` to compare variables over the whole space.

        References:
          Tomczak and Tomczak, `The need to report effect size estimates revisited
          <http://tss.awf.poznan.pl/files/3_Trends_Vol21_2014__no1_20.pdf>`_, 2014.

        Raises:
          ValueError: a history without points, or several objectives.
        """
        return importance_in(self.history)

    def plot_importance(self, ax: Any = None) -> Any:
        """Plots `importance()`: a bar for each of the 20 most important variables. Returns the axes."""
        return plot_importance(self.importance(), ax)

    def plot_parallel(self, ax: Any = None) -> Any:
        """Plots each evaluation as a line across one vertical axis per variable, the best ones on top.

        Shows the value and the 10 most important variables, without failed and pruned evaluations. Axes
        have the scale of the domain, linear or logarithmic. Variables that are not part of a point lie at
        "absent". Returns the axes.

        Raises:
          ValueError: a history without points, or several objectives.
        """
        return plot_parallel(self.history, ax)

    def frame(self) -> Any:
        """The history as a `pandas.DataFrame`: one row an evaluation.

        Columns: the entries of the point by name, value, best, seconds, failed and, with `has_aux`, the
        attributes. Of several runs, the best one.

        Raises:
          ImportError: pandas is missing.

        >>> from zojax import search
        >>> space = {"x": search.uniform(-1, 1, (2,)), "kind": search.choice(["a", "b"])}
        >>> result = search.minimize(lambda p: float(p["x"][0]), space, budget=5, key=0, jit=False)
        >>> result.frame().columns.tolist()
        ['kind', 'x[0]', 'x[1]', 'value', 'best', 'seconds', 'failed']
        """
        return frame_of(self.history)

    @property
    def front(self) -> Front:
        """The Pareto front of several objectives, see `FrontResult`.

        Raises:
          AttributeError: one objective.
        """
        raise AttributeError("a search for one objective has no front: read best and best_value.")

    def hypervolume(self, reference: Any) -> float:
        """The volume between the front and a reference point, see `Front.hypervolume`."""
        return self.front.hypervolume(reference)

    def plot_front(self, ax: Any = None) -> Any:
        """Plots all evaluations and the front. Needs matplotlib; returns the axes.

        With three objectives, the colour is the third one.

        Raises:
          AttributeError: one objective.
          ValueError: more than 3 objectives.
        """
        return self.front.plot(ax, self.history.values)


class SearchProgress(NamedTuple):
    """The progress of a search, for callbacks.

    Attributes:
      evaluations: of each run so far.
      best: the best point so far, as the user's pytree. With several objectives, the points of the front so
        far, with a leading axis.
      best_value: its value. With noise, luck makes it too good. With several objectives, the values of the
        front, (n, objectives).
      trial: the last evaluation; None if the whole search is compiled.
    """

    evaluations: int
    best: PyTree
    best_value: Any
    trial: Trial | None = None

    def scalars(self) -> list[tuple[int, dict[str, float]]]:
        """One row for `zojax.logging`: best value, or points of the front, and the last evaluation."""
        row: dict[str, float] = {}
        if np.ndim(self.best_value):
            row["front"] = len(self.best_value)
        else:
            row["best_value"] = float(self.best_value)
        if self.trial is not None:
            values = np.atleast_1d(self.trial.value)
            names = ["value"] if len(values) == 1 else [f"value_{i}" for i in range(len(values))]
            row |= dict(zip(names, map(float, values), strict=True))
            row["seconds"] = float(self.trial.seconds)
        return [(self.evaluations, row)]


def trial_of(problem: Problem, entry: Entry) -> Trial:
    """An evaluation in the user's form."""
    value = problem.shown(problem.score(entry.value))
    violation = _violations_of(problem, entry.value)
    return Trial(problem.space.point(entry.x), value, *entry[2:], violation)


def _violations_of(problem: Problem, values: np.ndarray) -> Any:
    """The largest violation of each row, at least 0; None without constraints."""
    return np.maximum(values[..., 1:].max(axis=-1), 0) if problem.constraints else None


def result_of(
    task: SearchTask, outcome: Outcome, key: int | jax.Array, budget: int
) -> SearchResult:
    """The result of the best run, with the signs of the user's values.

    `budget` is that of the first search, if several follow each other.
    """
    problem, best = task.problem, int(np.argmin(outcome.value))
    fields = shared_fields(task, outcome, key, budget)
    violation = _violation_of(problem, outcome, best)
    if violation:
        fields["message"] += (
            f"; no point was feasible, the best one violates a constraint by {violation:.3g}"
        )
    return SearchResult(
        best=problem.space.point(outcome.x[best]),
        best_value=float(problem.shown(outcome.value[best])),
        best_error=None if outcome.value_error is None else float(outcome.value_error[best]),
        history=fields["runs"][best],
        run_values=problem.shown(outcome.value),
        violation=violation,
        **fields,
    )


def shared_fields(
    task: SearchTask, outcome: Outcome, key: int | jax.Array, budget: int
) -> dict[str, Any]:
    """The fields that results of one and of several objectives have in common."""
    usable = [np.isfinite(v).all(axis=tuple(range(1, v.ndim))) for v in outcome.values]
    evaluations, message = sum(map(len, usable)), outcome.message
    failures = evaluations - sum(int(np.sum(run)) for run in usable)
    if failures == evaluations > 0:
        message += "; no evaluation succeeded"
        message += f": {outcome.failure}" if outcome.failure else ""
    state = outcome.state
    for kind in (OnceState, ConstrainedState):
        state = state.inner if isinstance(state, kind) else state
    return {
        "evaluations": evaluations,
        "failures": failures,
        "message": message,
        "state": state,
        "search_state": _search_state_of(task, outcome, key, budget),
        "key": key,
        "runs": tuple(_history(task.problem, outcome, run) for run in range(len(usable))),
    }


def _history(problem: Problem, outcome: Outcome, run: int) -> History:
    points, notes, values = outcome.points, outcome.notes, outcome.values[run]
    pruned = outcome.pruned[run] if outcome.pruned else np.zeros(len(values), bool)
    scores = problem.score(values)
    complete = scores.copy()
    complete[pruned] = np.inf
    return History(
        values=problem.shown(scores),
        best_values=problem.shown(np.minimum.accumulate(complete)),
        points=None if points is None else EncodedPoints(problem.space, points[run]),
        pruned=pruned,
        notes=None if notes is None else notes[run],
        violations=_violations_of(problem, values),
    )


def _violation_of(problem: Problem, outcome: Outcome, run: int) -> float | None:
    if not problem.constraints:
        return None
    state = outcome.state.inner if isinstance(outcome.state, OnceState) else outcome.state
    largest = np.reshape(state.found.largest, -1)
    return 0.0 if np.isfinite(outcome.value[run]) else float(largest[run])


def _search_state_of(
    task: SearchTask, outcome: Outcome, key: int | jax.Array, budget: int
) -> SearchState:
    """The end of a search, after its earlier parts."""
    before = 0 if task.state is None else task.state.evaluations
    return SearchState(
        algorithm=outcome.state,
        x=outcome.x,
        values=outcome.value,
        evaluations=before + max(map(len, outcome.values)),
        budget=budget,
        planned=task.problem.planned,
        key=np.asarray(jax.random.key_data(as_key(key))),
    )
