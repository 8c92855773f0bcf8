"""The outcome of the loops on the device and on the host, for one run or several."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from zojax.search.engine.evaluation import Entry
from zojax.search.engine.front import in_front


class Notes:
    """What the host saw of a run's evaluations beside their values.

    Equal to all others, so that histories of several searches have one structure as pytrees.

    Attributes:
      seconds: (evaluations,) float64, nan if unknown.
      errors: the exceptions as text, by the number of the evaluation.
      attributes: the attributes of each evaluation, or None without `has_aux`.
    """

    def __init__(self, entries: list[Entry], has_aux: bool):
        self.seconds = np.array([entry.seconds for entry in entries], np.float64)
        self.errors = {i: entry.error for i, entry in enumerate(entries) if entry.error}
        self.attributes = [entry.attributes for entry in entries] if has_aux else None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Notes)

    def __hash__(self) -> int:
        return hash(Notes)


def joined(notes: list[Notes] | None) -> Notes:
    """The notes of several runs, one after the other."""
    whole = Notes([], has_aux=False)
    for one in notes or []:
        before = len(whole.seconds)
        whole.errors |= {before + place: text for place, text in one.errors.items()}
        whole.seconds = np.concatenate([whole.seconds, one.seconds])
        if one.attributes is not None:
            whole.attributes = [*(whole.attributes or []), *one.attributes]
    return whole


class Outcome(NamedTuple):
    """The results of all runs. Lower values are better.

    `x` (runs, d) and `value` (runs,) are recommendations. `value_error` (runs,) has the standard errors of
    `value`, nan if unknown; None without noise. `values`, `points` and `notes` have a history for each
    run.

    With several objectives, `x` (n, d) and `value` (n, objectives) are the fronts that the algorithms
    keep, with inf in rows outside a front.
    """

    x: np.ndarray
    value: np.ndarray
    value_error: np.ndarray | None
    values: list[np.ndarray]
    points: list[np.ndarray] | None
    state: Any
    message: str
    stopped: bool = False  # by an event that ends all runs: a callback, the time, an interrupt
    failure: str | None = None  # the first exception of an evaluation
    raised: BaseException | None = None  # the exception that ended the search, to raise again
    pruned: list[np.ndarray] | None = None  # which evaluations of each run ended early; None: none
    notes: list[Notes] | None = None


def mean_and_error(values: np.ndarray, otherwise: Any) -> tuple[Any, float]:
    """(mean, standard error) of finite values; (inf, nan) if none, (`otherwise`, nan) below two values."""
    finite = values[np.isfinite(values)]
    if len(values) < 2:
        return otherwise, np.nan
    if len(finite) < 2:
        return (float(finite[0]) if len(finite) else np.inf), np.nan
    return float(np.mean(finite)), float(np.std(finite, ddof=1) / np.sqrt(len(finite)))


def leading(x: np.ndarray, value: np.ndarray) -> tuple[np.ndarray, Any]:
    """The best of several recommendations: (point, value), or (points, values) of several objectives."""
    if value.ndim > 1:
        first = in_front(value)
        return x[first], value[first]
    i = int(np.argmin(value))
    return x[i], float(value[i])


def one_after_another(run: Callable[[Any], Outcome], keys: Iterable[Any]) -> Outcome:
    """A run for each key, until one is stopped. After an exception, the finished runs."""
    outcomes: list[Outcome] = []
    for key in keys:
        try:
            outcomes.append(run(key))
        except BaseException as error:  # before the run had any result
            if not outcomes:
                raise
            outcomes[-1] = stopped_by(error, outcomes[-1])
        if outcomes[-1].stopped:
            break
    return concatenate(outcomes)


def stopped_by(error: BaseException, outcome: Outcome) -> Outcome:
    """The outcome of a search that an exception ended. Only an interrupt is not raised again."""
    if isinstance(error, KeyboardInterrupt):
        return outcome._replace(stopped=True, message="interrupted")
    message = f"ended by {type(error).__name__}: {error}"
    return outcome._replace(stopped=True, message=message, raised=error)


def concatenate(outcomes: list[Outcome]) -> Outcome:
    """Successive runs as one outcome, with the message of the best run, or of the stop."""
    last = outcomes[-1]
    value = np.concatenate([o.value for o in outcomes])
    errors = [o.value_error for o in outcomes if o.value_error is not None]
    points = [o.points for o in outcomes if o.points is not None]
    return Outcome(
        x=np.concatenate([o.x for o in outcomes]),
        value=value,
        value_error=np.concatenate(errors) if errors else None,
        values=[v for o in outcomes for v in o.values],
        points=[p for run in points for p in run] if len(points) == len(outcomes) else None,
        state=jax.tree.map(_stacked, *[o.state for o in outcomes]),
        message=(
            last if last.stopped or value.ndim > 1 else outcomes[int(np.argmin(value))]
        ).message,
        stopped=last.stopped,
        failure=next((o.failure for o in outcomes if o.failure), None),
        raised=last.raised,
        notes=[n for o in outcomes for n in o.notes or []] or None,
        pruned=[p for o in outcomes for p in o.pruned or [np.zeros(len(o.values[0]), bool)]],
    )


def _stacked(*leaves: Any) -> Any:
    """Leaves of several runs. Those of the host stay in NumPy, in float64."""
    is_host = isinstance(leaves[0], (np.ndarray, np.generic))
    return np.stack(leaves) if is_host else jnp.stack(leaves)
