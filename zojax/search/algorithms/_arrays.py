"""Writes of one entry or row: in place alone, one-hot under vmap, where XLA's scatters would be slow."""

import jax
import jax.numpy as jnp
from jax import lax


@jax.custom_batching.custom_vmap
def set_row(array: jax.Array, index: jax.Array, row: jax.Array) -> jax.Array:
    """`array` with `row` at `index` of its first axis."""
    return lax.dynamic_update_index_in_dim(array, row, index, 0)


@set_row.def_vmap
def _(size, batched, array, index, row):
    array, index, row = (
        x if is_batched else jnp.broadcast_to(x, (size, *x.shape))
        for x, is_batched in zip((array, index, row), batched, strict=True)
    )
    return _set_rows(array, index, row), True


def _set_rows(array, index, row):
    here = lax.broadcasted_iota(index.dtype, array.shape[:2], 1) == index[:, None]
    here = here.reshape(here.shape + (1,) * (array.ndim - 2))
    return jnp.where(here, row[:, None], array)


@jax.custom_batching.custom_vmap
def put_row(array: jax.Array, index: jax.Array, row: jax.Array, wanted: jax.Array) -> jax.Array:
    """`set_row` where `wanted`, else `array` as it is."""
    old = lax.dynamic_index_in_dim(array, index, 0, keepdims=False)
    return lax.dynamic_update_index_in_dim(array, jnp.where(wanted, row, old), index, 0)


@put_row.def_vmap
def _(size, batched, array, index, row, wanted):
    array, index, row, wanted = (
        x if is_batched else jnp.broadcast_to(x, (size, *x.shape))
        for x, is_batched in zip((array, index, row, wanted), batched, strict=True)
    )
    return _set_rows(array, jnp.where(wanted, index, -1), row), True


def insert_sorted(xs, values, x, value):
    """Inserts a point into points sorted by value; returns them and the one that had to leave.

    A point no better than the last leaves itself. Equal values: the newcomer stands behind.
    """
    after = value < values  # where everything moves one back
    first = after & ~jnp.concatenate([jnp.zeros(1, bool), after[:-1]])
    out = after[-1]
    evicted = jnp.where(out, xs[-1], x), jnp.where(out, values[-1], value)
    shifted_x = jnp.concatenate([xs[:1], xs[:-1]])
    shifted_v = jnp.concatenate([values[:1], values[:-1]])
    new_x = jnp.where(first[:, None], x, jnp.where(after[:, None], shifted_x, xs))
    new_v = jnp.where(first, value, jnp.where(after, shifted_v, values))
    return new_x, new_v, evicted


def entry(array: jax.Array, index: jax.Array) -> jax.Array:
    """array[index] of a short array, without a gather."""
    return jnp.sum(jnp.where(lax.iota(jnp.int32, len(array)) == index, array, 0))


def holds(total: int, places: jax.Array) -> jax.Array:
    """bool (total,): which indices are among `places`."""
    return jnp.any(lax.iota(jnp.int32, total)[:, None] == places, axis=1)
