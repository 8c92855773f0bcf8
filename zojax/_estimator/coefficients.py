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
    used = jnp.sum(valid, dtype=jnp.int32)
    table = jnp.where(valid[:, None], values, 0)
    count = jnp.maximum(used, 1).astype(table.dtype)
    mean = mean_of(table, valid)
    c = shaping.values(table, valid) @ jnp.asarray(stencil.weights, table.dtype)
    if stencil.memory:
        c = c + float(stencil.memory) * _remembered(state, mean)
    c = shaping.coefficients(_over(c, mu, valid), valid)
    c = _over(c, count, valid).astype(dtype)
    c = jnp.where(valid, jnp.where(jnp.isfinite(c), c, 0), jnp.nan)
    value = mean
    if choices.centered:
        value = mean_of(table, valid, axis=0)[stencil.offsets.index(0.0)]
    value = jnp.where(used > 0, value, jnp.nan)
    return Coefficients(c, value, mean, used)


def following(
    values: jax.Array, mu: jax.Array, found: Coefficients, state: EstimatorState | None
) -> tuple[jax.Array, EstimatorState | None]:
    """`Estimate.flat`, and the next state but for `clipped`.

    Counted from the values, as `found.used` is: else XLA would take half of this out of its loop.
    """
    valid = _valid(values, mu)
    found = found._replace(used=jnp.sum(valid, dtype=jnp.int32))
    flat, unresolved = _equal_values(values, valid, state)
    return flat, None if state is None else _next_state(state, found, flat, unresolved)


def _valid(values: jax.Array, mu: jax.Array) -> jax.Array:
    return jnp.all(jnp.isfinite(values), axis=1) & (mu > 0)  # a schedule may end at 0


def _over(c: jax.Array, scalar: jax.Array, valid: jax.Array) -> jax.Array:
    """c over a scalar. The compiler multiplies by the reciprocal of one number in some programs only."""
    return c / jnp.where(valid, scalar.astype(c.dtype), 1)


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
    used, value = found.used, found.value.astype(state.first.dtype)
    total = counted(state.used, used)
    seen = total > used  # by earlier steps
    first = jnp.where(seen, state.first, value)
    least = jnp.minimum(jnp.where(seen, state.least, value), value)
    return state._replace(
        skipped=state.skipped + (len(found.c) - used),
        previous=jnp.where(used > 0, found.mean.astype(state.previous.dtype), state.previous),
        started=state.started | (used > 0),
        used=total,
        first=jnp.where(used > 0, first, state.first),
        least=jnp.where(used > 0, least, state.least),
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
    values = jnp.where(known[:, None], values, 0)
    most, least = jnp.max(values, axis=1), jnp.min(values, axis=1)
    spread = most - least
    rounding = 8 * jnp.finfo(values.dtype).eps * jnp.maximum(most, -least)
    flat, unresolved = (jnp.sum(known & near) for near in (spread == 0, spread <= rounding))
    return flat.astype(jnp.int32), unresolved.astype(jnp.int32)


def counted(count: jax.Array, n: jax.Array) -> jax.Array:
    """count + n, both int32 and not negative, at most 2^31 - 1."""
    return jnp.minimum(count, np.iinfo(np.int32).max - n) + n
