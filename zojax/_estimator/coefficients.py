"""Values to coefficients, and the counters that `zojax.verdict` reads."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from zojax._estimator.records import Choices, EstimatorState
from zojax._numerics import accumulator_dtype, mean_of
from zojax.stencils import Stencil


class Coefficients(NamedTuple):
    """The weights of the directions of one step.

    Attributes:
      c: shape (N,), NaN for a direction that was left out.
      value: the loss at x or the mean, as in `Estimate.value`.
      mean: of all values.
      used: int32, directions whose evaluations are all finite.
    """

    c: jax.Array
    value: jax.Array
    mean: jax.Array
    used: jax.Array


def scored(
    choices: Choices, dtype, values: jax.Array, mu: jax.Array, state: EstimatorState | None
) -> Coefficients:
    """The coefficients of a table of values (directions, offsets)."""
    stencil, shaping = choices.stencil, choices.shaping
    valid = _valid(values, mu)
    used = _number_of(valid)
    table = _chosen(valid, values, 0)
    count = lax.max(used, np.int32(1)).astype(table.dtype)
    mean = mean_of(table, valid)
    shaped = shaping.values(table, valid)
    weights = lax.broadcast(np.asarray(stencil.weights, shaped.dtype), shaped.shape[:1])
    c = lax.reduce_sum(lax.mul(shaped, weights), (1,))
    if stencil.memory:
        c = c + float(stencil.memory) * _remembered(state, mean)
    c = shaping.coefficients(_over(c, mu, valid), valid)
    c = _over(c, count, valid).astype(dtype)
    c = _chosen(valid, _chosen(lax.is_finite(c), c, 0), np.nan)
    value = mean
    if choices.centered:
        value = mean_of(table, valid, axis=0)[stencil.offsets.index(0.0)]
    value = _chosen(lax.gt(used, np.int32(0)), value, np.nan)
    return Coefficients(c, value, mean, used)


def settled(
    score, values: jax.Array, mu: jax.Array, state: EstimatorState | None
) -> tuple[Coefficients, tuple]:
    """`scored` and `following`, where one small loop takes both."""
    found = score(values, mu, state)
    return found, following(values, mu, found, state)


def following(
    values: jax.Array, mu: jax.Array, found: Coefficients, state: EstimatorState | None
) -> tuple[jax.Array, EstimatorState | None]:
    """`Estimate.flat`, and the next state but for `clipped`.

    Counted from the values, as `found.used` is: else XLA would take half of this out of its loop.
    """
    valid = _valid(values, mu)
    found = found._replace(used=_number_of(valid))
    flat, unresolved = _equal_values(values, valid, state)
    return flat, None if state is None else _next_state(state, found, flat, unresolved)


def _valid(values: jax.Array, mu: jax.Array) -> jax.Array:
    is_moved = lax.gt(mu, np.float32(0))  # a schedule may end at 0
    finite = lax.reduce_and(lax.is_finite(values), (1,))
    return lax.bitwise_and(finite, lax.broadcast(is_moved, finite.shape))


def _number_of(valid: jax.Array) -> jax.Array:
    return lax.reduce_sum(lax.convert_element_type(valid, np.int32), (0,))


def _chosen(valid: jax.Array, x: jax.Array, other: float) -> jax.Array:
    """x where its row is valid, another number elsewhere."""
    return lax.select(
        lax.broadcast_in_dim(valid, x.shape, range(valid.ndim)), x, lax.full_like(x, other)
    )


def _over(c: jax.Array, scalar: jax.Array, valid: jax.Array) -> jax.Array:
    """c over a scalar. The compiler multiplies by the reciprocal of one number in some programs only."""
    divisor = lax.broadcast(lax.convert_element_type(scalar, c.dtype), c.shape)
    return lax.div(c, _chosen(valid, divisor, 1))


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


def _next_state(
    state: EstimatorState, found: Coefficients, flat: jax.Array, unresolved: jax.Array
) -> EstimatorState:
    used, value = found.used, lax.convert_element_type(found.value, state.first.dtype)
    total = counted(state.used, used)
    seen, is_used = lax.gt(total, used), lax.gt(used, np.int32(0))  # seen: by earlier steps
    mean = lax.convert_element_type(found.mean, state.previous.dtype)
    first = lax.select(seen, state.first, value)
    least = lax.min(lax.select(seen, state.least, value), value)
    left_out = lax.sub(np.int32(len(found.c)), used)
    return state._replace(
        skipped=lax.add(state.skipped, left_out),
        previous=lax.select(is_used, mean, state.previous),
        started=lax.bitwise_or(state.started, is_used),
        used=total,
        first=lax.select(is_used, first, state.first),
        least=lax.select(is_used, least, state.least),
        flat=counted(state.flat, flat),
        unresolved=counted(state.unresolved, unresolved),
    )


def _equal_values(values, valid, state: EstimatorState | None) -> tuple[jax.Array, jax.Array]:
    """(flat, unresolved): directions with equal values, and with values equal up to rounding."""
    known = valid
    if values.shape[1] == 1:  # compared with the previous step
        if state is None:
            return jnp.int32(0), jnp.int32(0)
        known = valid & state.started
        before = jnp.broadcast_to(state.previous.astype(values.dtype), values.shape)
        values = jnp.concatenate([values, before], axis=1)
    values = _chosen(known, values, 0)
    most, least = lax.reduce_max(values, (1,)), lax.reduce_min(values, (1,))
    spread, eps = lax.sub(most, least), jnp.finfo(values.dtype).eps
    rounding = lax.mul(lax.max(most, lax.neg(least)), np.asarray(8 * eps, values.dtype))
    flat, unresolved = (
        _number_of(lax.bitwise_and(known, lax.le(spread, most_spread)))
        for most_spread in (lax.full_like(spread, 0), rounding)
    )
    return flat, unresolved


def counted(count: jax.Array, n: jax.Array) -> jax.Array:
    """count + n, both int32 and not negative, at most 2^31 - 1."""
    return lax.add(lax.min(count, lax.sub(np.int32(np.iinfo(np.int32).max), n)), n)
