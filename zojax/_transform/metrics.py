"""Metrics of each step, kept in the optimizer's state on request."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import export

from zojax import noise
from zojax._numerics import marking_nan
from zojax._transform.state import ZerothOrder, ZerothOrderState
from zojax._trees import PyTree, copied, floats_only


class Metrics(NamedTuple):
    """Numbers of the last step, in `ZerothOrderState.metrics`; see `zojax.with_metrics`.

    Attributes:
      c_norm: the Euclidean norm of the coefficients. The gradient's is about `sqrt(d)` times as large.
      nonfinite: int32, directions left out because an evaluation was not finite.
      flat: int32, directions with equal values.
      effective: `(sum c_i^2)^2 / sum c_i^4`, from 1 to N: how many directions share the estimate.
      alignment: the cosine of this gradient and the last step's. Below zero, steps overshoot. NaN in the
        first step, for a gradient of zero, and for a `zojax.directions.Adaptive`.
    """

    c_norm: jax.Array
    nonfinite: jax.Array
    flat: jax.Array
    effective: jax.Array
    alignment: jax.Array


export.register_namedtuple_serialization(Metrics, serialized_name="zojax.Metrics")


def metrics_of(state: ZerothOrderState) -> dict[str, float]:
    """The metrics of a state by name; empty without `with_metrics`."""
    found = state.metrics
    return {name: float(x) for name, x in found._asdict().items()} if found else {}


def with_metrics(tx: ZerothOrder) -> ZerothOrder:
    """The same optimizer with `Metrics` of the last step in `state.metrics`.

    Updates keep their bits, and the state grows by five scalars. The alignment makes the last two
    gradients again from their coefficients: two sums of directions a step, and no evaluation.

    Args:
      tx: from `zojax.zeroth_order` or a ready-made optimizer.

    Returns:
      A `ZerothOrder` with the estimator of `tx`. Replay its log with metrics, too. A replay evaluates
      nothing and leaves them as they were.

    Raises:
      TypeError: for another transformation.

    >>> import jax.numpy as jnp, zojax
    >>> tx, params = zojax.with_metrics(zojax.mezo(0.1, num_directions=4)), jnp.ones(3)
    >>> updates, state = tx.update(None, tx.init(params), params, value_fn=lambda x: jnp.sum(x**2))
    >>> int(state.metrics.nonfinite), 1 <= float(state.metrics.effective) <= 4
    (0, True)
    """
    if not isinstance(tx, ZerothOrder):
        raise TypeError(
            "with_metrics takes what zojax.zeroth_order or a ready-made optimizer returns, got "
            f"{type(tx).__name__}; wrap the part of a chain that estimates."
        )
    measure = marking_nan(jax.jit(_measured(tx)))

    def init(params: PyTree) -> ZerothOrderState:
        state = tx.init(params)
        nan, zero = np.asarray(np.nan, state.coefficients.dtype), np.int32(0)
        return state._replace(metrics=Metrics(*map(copied, (nan, zero, zero, nan, nan))))

    def update(updates: Any, state: ZerothOrderState, params: PyTree = None, **options: Any):
        updates, after = tx.update(updates, state, params, **options)
        return updates, after._replace(metrics=measure(state, after, params))

    def replay(state: ZerothOrderState, params: PyTree, coefficients, value=jnp.nan):
        updates, after = tx.replay(state, params, coefficients, value)
        return updates, after._replace(metrics=state.metrics)

    return ZerothOrder(init, update, tx.estimator, replay)


def _measured(tx: ZerothOrder) -> Callable[..., Metrics]:
    def gradient(before: ZerothOrderState, count, coefficients, params: PyTree) -> PyTree:
        key = noise.fold_in(before.rng_key, count)
        return floats_only(tx.estimator.combine(key, params, coefficients, jnp.float32))

    def measured(before: ZerothOrderState, after: ZerothOrderState, params: PyTree) -> Metrics:
        c = jnp.where(jnp.isnan(after.coefficients), 0, after.coefficients)
        seen, then = after.estimator_state, before.estimator_state
        alignment = jnp.full_like(c, jnp.nan, shape=())
        if not jax.tree.leaves(then.direction):  # a memory is gone after its step
            now = gradient(before, before.count, c, params)
            last = gradient(before, before.count - 1, before.coefficients, params)
            alignment = optax.tree.vdot(now, last) / optax.tree.norm(now) / optax.tree.norm(last)
        square = c**2
        return Metrics(
            c_norm=jnp.sqrt(jnp.sum(square)),
            nonfinite=seen.skipped - then.skipped,
            flat=seen.flat - then.flat,
            effective=jnp.sum(square) ** 2 / jnp.sum(square**2),
            alignment=alignment.astype(c.dtype),
        )

    return measured
