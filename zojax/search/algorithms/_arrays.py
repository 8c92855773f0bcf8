"""Reads, writes and choices of single entries and rows, without gathers and scatters.

A write is in place. Under `vmap` it is a one-hot select, because XLA's scatters are slow.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from zojax.noise import scramble


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
    """`set_row` where `wanted`, else `array` unchanged."""
    old = lax.dynamic_index_in_dim(array, index, 0, keepdims=False)
    return lax.dynamic_update_index_in_dim(array, jnp.where(wanted, row, old), index, 0)


@put_row.def_vmap
def _(size, batched, array, index, row, wanted):
    array, index, row, wanted = (
        x if is_batched else jnp.broadcast_to(x, (size, *x.shape))
        for x, is_batched in zip((array, index, row, wanted), batched, strict=True)
    )
    return _set_rows(array, jnp.where(wanted, index, -1), row), True


def entry(array: jax.Array, index: jax.Array) -> jax.Array:
    """array[index] of a short array, without a gather."""
    return jnp.sum(jnp.where(lax.iota(jnp.int32, len(array)) == index, array, 0))


def holds(total: int, places: jax.Array) -> jax.Array:
    """bool (total,): which indices are among `places`."""
    return jnp.any(lax.iota(jnp.int32, total)[:, None] == places, axis=1)


def insert_sorted(xs, values, x, value):
    """Points sorted by value, with a new point in place of the last, if better; behind equal values."""
    after = value < values  # these move back by one
    first = after & ~jnp.concatenate([jnp.zeros(1, bool), after[:-1]])
    shifted_x = jnp.concatenate([xs[:1], xs[:-1]])
    shifted_v = jnp.concatenate([values[:1], values[:-1]])
    new_x = jnp.where(first[:, None], x, jnp.where(after[:, None], shifted_x, xs))
    new_v = jnp.where(first, value, jnp.where(after, shifted_v, values))
    return new_x, new_v


def pick(mask: jax.Array, word: jax.Array) -> jax.Array:
    """One true entry at random, as a mask; none if there is none.

    The entry with the largest hash of index and word: one reduction instead of prefix sums.
    """
    mixed = jnp.where(mask, scramble(lax.iota(jnp.uint32, mask.shape[0]) ^ word), np.uint32(0))
    return mask & (mixed == jnp.max(mixed))


def index_of(chosen: jax.Array) -> jax.Array:
    """The position of a mask's one true entry; 0 if there is none."""
    return jnp.max(jnp.where(chosen, lax.iota(jnp.int32, chosen.shape[0]), 0))
