"""Values to coefficients, and the counters that `zojax.verdict` reads."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from zojax._estimator.records import Choices, EstimatorState
from zojax._numerics import accumulator_dtype, mean_of
from zojax.stencils import Stencil


class Coefficients(NamedTuple):
    """The weights of the directions of one step.

    Attributes:
      c: shape (N,), zero for a direction that was left out.
      valid: shape (N,), whether all evaluations of a direction are finite.
      value: the loss at x or the mean, as in `Estimate.value`.
      mean: the mean over all finite evaluations.
    """

    c: jax.Array
    valid: jax.Array
    value: jax.Array
    mean: jax.Array


def coefficients(choices: Choices, values, mu: jax.Array, state, dtype) -> Coefficients:
    """The coefficients of a table of values (directions, offsets)."""
    stencil, shaping = choices.stencil, choices.shaping
    valid = jnp.all(jnp.isfinite(values), axis=1) & (mu > 0)  # a schedule may end at 0
    used = jnp.sum(valid)
    table = jnp.where(valid[:, None], values, 0)
    count = jnp.maximum(used, 1).astype(table.dtype)
    mean = mean_of(table, valid)
    c = shaping.values(table, valid) @ jnp.asarray(stencil.weights, table.dtype)
    if stencil.memory:
        c = c + float(stencil.memory) * _remembered(state, mean)
    c = (shaping.coefficients(c / mu.astype(c.dtype), valid) / count).astype(dtype)
    c = jnp.where(valid & jnp.isfinite(c), c, 0)
    value = mean
    if choices.centered:
        value = mean_of(table, valid, axis=0)[stencil.offsets.index(0.0)]
    return Coefficients(c, valid, jnp.where(used > 0, value, jnp.nan), mean)


def coefficients_dtype(floats: list) -> jnp.dtype:
    """float64 if a leaf is, else float32."""
    dtypes = [accumulator_dtype(jnp.result_type(leaf)) for leaf in floats]
    return jnp.result_type(jnp.float32, *dtypes)


def insert_center(stencil: Stencil, values: jax.Array, center: jax.Array) -> jax.Array:
    """The table with the values at x, shared or one a direction, in the column of offset 0."""
    place = stencil.offsets.index(0.0)
    center = jnp.broadcast_to(center, (len(values), 1))
    return jnp.concatenate([values[:, :place], center, values[:, place:]], axis=1)


def _remembered(state: EstimatorState | None, mean: jax.Array) -> jax.Array:
    """The previous step's mean value; in the first step its own."""
    if state is None:
        raise ValueError(
            "this stencil remembers the previous step and needs state=; "
            "use it inside zojax.zeroth_order, or pass state=estimator.init()."
        )
    return jnp.where(state.started, state.previous.astype(mean.dtype), mean)


def next_state(
    state: EstimatorState,
    found: Coefficients,
    flat: jax.Array,
    unresolved: jax.Array,
    clipped: jax.Array,
) -> EstimatorState:
    """The state after a step with these coefficients and counts."""
    used = jnp.sum(found.valid).astype(jnp.int32)
    value, seen = found.value.astype(state.first.dtype), state.used > 0
    first = jnp.where(seen, state.first, value)
    least = jnp.where(seen, jnp.minimum(state.least, value), value)
    return EstimatorState(
        skipped=state.skipped + (len(found.valid) - used),
        previous=jnp.where(used > 0, found.mean.astype(state.previous.dtype), state.previous),
        started=state.started | (used > 0),
        used=_plus(state.used, used),
        first=jnp.where(used > 0, first, state.first),
        least=jnp.where(used > 0, least, state.least),
        flat=_plus(state.flat, flat),
        unresolved=_plus(state.unresolved, unresolved),
        clipped=_plus(state.clipped, clipped),
    )


def equal_values(values, valid, state: EstimatorState | None) -> tuple[jax.Array, jax.Array]:
    """(flat, unresolved): directions with equal values, and with values equal up to rounding."""
    known = valid
    if values.shape[1] == 1:  # compared with the previous step
        if state is None:
            return jnp.int32(0), jnp.int32(0)
        known = valid & state.started
        before = jnp.broadcast_to(state.previous.astype(values.dtype), values.shape)
        values = jnp.concatenate([values, before], axis=1)
    values = jnp.where(known[:, None], values, 0)
    spread = jnp.max(values, axis=1) - jnp.min(values, axis=1)
    rounding = 8 * jnp.finfo(values.dtype).eps * jnp.max(jnp.abs(values), axis=1)
    flat, unresolved = (jnp.sum(known & near) for near in (spread == 0, spread <= rounding))
    return flat.astype(jnp.int32), unresolved.astype(jnp.int32)


def _plus(count: jax.Array, n: jax.Array) -> jax.Array:
    """A sum of counts that saturates instead of overflowing."""
    most = np.iinfo(np.int32).max
    return jnp.where(count > most - n, most, count + n).astype(jnp.int32)
