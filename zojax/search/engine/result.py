"""Results of a search, and the progress that callbacks see."""

from typing import Any, NamedTuple

import jax
import numpy as np

from zojax._plot import plot_run
from zojax._trees import PyTree
from zojax.search.engine.front import Front
from zojax.search.engine.once import OnceState
from zojax.search.engine.outcome import Outcome
from zojax.search.engine.task import Problem
from zojax.search.spaces import Space


@jax.tree_util.register_pytree_node_class
class History:
    """Every evaluation of a run, in order.

    Attributes:
      values: (evaluations,) float64, inf where an evaluation failed (-inf when maximizing).
      best_values: (evaluations,) float64, the best value so far.
      points: the user's pytree with a leading axis of evaluations; None above 2^26 numbers.
      pruned: (evaluations,) bool, which ended early. Their values are the last reported ones, and do not
        count as the best so far.
    """

    def __init__(
        self, values: np.ndarray, best_values: np.ndarray, points: PyTree, pruned: np.ndarray
    ):
        self.values, self.best_values, self.pruned = values, best_values, pruned
        self._points = points

    @property
    def points(self) -> PyTree:
        """The user's pytree with a leading axis of evaluations, or None."""
        # Decoded on first use: for many coordinates, decoding takes longer than the search.
        if isinstance(self._points, EncodedPoints):
            self._points = self._points.space.point(self._points.rows)
        return self._points

    def __repr__(self) -> str:
        return f"History(values={self.values}, best_values={self.best_values}, points=...)"

    def __getstate__(self) -> dict:
        return {**vars(self), "_points": self.points}

    def tree_flatten(self):
        return (self.values, self.best_values, self.points, self.pruned), None

    @classmethod
    def tree_unflatten(cls, aux, children) -> "History":
        return cls(*children)


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

    def __str__(self) -> str:
        error = "" if self.best_error is None else f" +- {self.best_error:.2g}"
        return f"best value {self.best_value:.6g}{error} at {self.best}\n{self._ending()}"

    def _ending(self) -> str:
        failed = f" ({self.failures} failed)" if self.failures else ""
        return f"{self.evaluations} evaluations{failed}: {self.message}"

    def plot(self, ax: Any = None) -> Any:
        """Plots all values and the best so far against evaluations. Needs matplotlib; returns the axes."""
        values, best_values = self.history.values, self.history.best_values
        return plot_run(ax, values, best_values, self.best_value, count="evaluations", word="best")

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
    """

    evaluations: int
    best: PyTree
    best_value: Any


def result_of(problem: Problem, outcome: Outcome) -> SearchResult:
    """The result of the best run, with the signs of the user's values."""
    space = problem.space
    best = int(np.argmin(outcome.value))
    values = outcome.values[best]
    pruned = outcome.pruned[best] if outcome.pruned else np.zeros(len(values), bool)
    evaluations, failures, message = ending_of(outcome)
    return SearchResult(
        best=space.point(outcome.x[best]),
        best_value=float(problem.signed(outcome.value[best])),
        best_error=None if outcome.value_error is None else float(outcome.value_error[best]),
        history=History(
            values=problem.signed(values),
            best_values=problem.signed(np.minimum.accumulate(np.where(pruned, np.inf, values))),
            points=None if outcome.points is None else EncodedPoints(space, outcome.points[best]),
            pruned=pruned,
        ),
        evaluations=evaluations,
        failures=failures,
        message=message,
        run_values=problem.signed(outcome.value),
        state=state_of(outcome),
    )


def ending_of(outcome: Outcome) -> tuple[int, int, str]:
    """(evaluations, failures, message) of all runs."""
    usable = [np.isfinite(v.reshape(len(v), -1)).all(axis=1) for v in outcome.values]
    evaluations = sum(map(len, usable))
    failures = evaluations - sum(int(np.sum(run)) for run in usable)
    message = outcome.message
    if failures == evaluations > 0:
        message += "; no evaluation succeeded"
        message += f": {outcome.failure}" if outcome.failure else ""
    return evaluations, failures, message


def state_of(outcome: Outcome) -> Any:
    """The algorithm's own state."""
    return outcome.state.inner if isinstance(outcome.state, OnceState) else outcome.state
