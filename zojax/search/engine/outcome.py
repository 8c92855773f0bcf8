"""The outcome of the loops on the device and on the host, for one run or several."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from zojax.search.engine.front import in_front


class Outcome(NamedTuple):
    """The results of all runs. Lower values are better.

    `x` (runs, d) and `value` (runs,) are recommendations. `value_error` (runs,) has the standard errors of
    `value`, nan if unknown; None without noise. `values` and `points` have a history for each run.

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


def one_after_another(run: Callable[[jax.Array], Outcome], keys: Iterable[jax.Array]) -> Outcome:
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
        state=jax.tree.map(lambda *leaves: jnp.stack(leaves), *[o.state for o in outcomes]),
        message=(last if last.stopped or value.ndim > 1 else outcomes[int(np.argmin(value))]).message,
        stopped=last.stopped,
        failure=next((o.failure for o in outcomes if o.failure), None),
        raised=last.raised,
        pruned=[p for o in outcomes for p in o.pruned or [np.zeros(len(o.values[0]), bool)]],
    )
