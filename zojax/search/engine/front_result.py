"""The result of a search for several objectives."""

from typing import Any, NoReturn

import jax
import numpy as np

from zojax.search.engine.front import Front, in_front
from zojax.search.engine.outcome import Outcome, joined
from zojax.search.engine.result import EncodedPoints, History, SearchResult, shared_fields
from zojax.search.engine.task import SearchTask


class FrontResult(SearchResult):
    """The result of a search for several objectives, of all runs together.

    As in a `SearchResult`: `evaluations`, `failures`, `message`, `state`, `search_state`, `key` and `runs`.
    The differences:

    - `front` in place of `best` and `best_value`, which raise an AttributeError: no single point is best;
    - `best_error` and `violation` are None;
    - `history` has all runs, one after the other, with `values` and `best_values` of shape (evaluations,
      objectives): the best of each objective so far;
    - `run_values` is (repeats, objectives), the best of each objective.
    """

    __slots__ = ()

    @property
    def best(self) -> NoReturn:  # type: ignore[override]
        raise AttributeError(
            "a search for several objectives has no best point: read front.points, or choose one, such as "
            "the least first objective, jax.tree.map(lambda leaf: leaf[0], result.front.points)."
        )

    @property
    def best_value(self) -> NoReturn:  # type: ignore[override]
        raise AttributeError(
            "a search for several objectives has no best value: read front.values."
        )

    @property
    def front(self) -> Front:
        """The Pareto front."""
        return tuple(self)[0]

    def __str__(self) -> str:
        return f"{len(self.front.values)} points in the front\n{self._ending()}"

    def plot(self, ax: Any = None) -> Any:
        """`plot_front`."""
        return self.plot_front(ax)


def front_result_of(
    task: SearchTask, outcome: Outcome, key: int | jax.Array, budget: int
) -> FrontResult:
    """The result of all runs, with the signs of the user's values."""
    problem, starts = task.problem, task.starts
    values = np.concatenate(outcome.values)
    # The algorithms' own fronts, of a history without points.
    rows, found = outcome.x, outcome.value
    if outcome.points is not None:
        rows, found = np.concatenate(outcome.points), values
    if starts.values is not None:
        rows, found = np.concatenate([starts.x, rows]), np.concatenate([starts.values, found])
    places = np.flatnonzero(in_front(found))
    places = places[np.lexsort(found[places].T[::-1])]
    return FrontResult(
        best=Front(
            points=problem.space.point(rows[places]),
            values=problem.signed(found[places]),
            maximize=tuple(sign < 0 for sign in np.atleast_1d(problem.sign)),
        ),
        best_value=np.nan,
        best_error=None,
        history=History(
            values=problem.signed(values),
            best_values=problem.signed(np.minimum.accumulate(values)),
            points=None
            if outcome.points is None
            else EncodedPoints(problem.space, np.concatenate(outcome.points)),
            pruned=np.zeros(len(values), bool),
            notes=joined(outcome.notes),
        ),
        run_values=problem.signed(np.stack([run.min(axis=0) for run in outcome.values])),
        **shared_fields(task, outcome, key, budget),
    )
