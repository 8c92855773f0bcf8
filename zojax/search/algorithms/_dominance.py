"""Dominance between values of several objectives: fronts, crowding, and the order that they give."""

from functools import reduce

import jax
import jax.numpy as jnp
from jax import lax


def dominance(values: jax.Array) -> jax.Array:
    """bool (n, n): whether i dominates j: no objective is worse, and one is better."""
    columns = (values[:, j] for j in range(values.shape[1]))
    no_worse = reduce(jnp.logical_and, (column[:, None] <= column for column in columns))
    return no_worse & ~no_worse.T


def fronts(values: jax.Array) -> jax.Array:
    """The front of each point, int32 (n,): 0 for points that none dominates, 1 without these, ..."""
    dominates = dominance(values)

    def is_left(carry):
        return jnp.any(carry[0] < 0)

    def peel(carry):
        front, k = carry
        left = front < 0
        is_next = left & ~jnp.any(dominates & left[:, None], axis=0)
        return jnp.where(is_next, k, front), k + 1

    start = jnp.full(len(values), -1, jnp.int32), jnp.int32(0)
    return lax.while_loop(is_left, peel, start)[0]


def crowding(values: jax.Array, front: jax.Array) -> jax.Array:
    """The crowding distance (n,): the gaps between the neighbours in one front, over the range.

    inf at the ends of a front, 0 for failures.
    """
    total = jnp.zeros(len(values), values.dtype)
    for j in range(values.shape[1]):
        total += _gaps(values[:, j], front)
    return total


def _gaps(column: jax.Array, front: jax.Array) -> jax.Array:
    # Sorts carry the other arrays along: a gather of integers has no form in NumPy.
    places = lax.iota(jnp.int32, len(column))
    by_value = lax.sort((column, front, places), num_keys=1)
    front, column, places = lax.sort((by_value[1], by_value[0], by_value[2]), num_keys=1)
    is_finite = jnp.isfinite(column)
    highest = jnp.max(jnp.where(is_finite, column, -jnp.inf))
    span = highest - jnp.min(column)
    alike, no = front[1:] == front[:-1], jnp.zeros(1, bool)
    inner = jnp.concatenate([no, alike]) & jnp.concatenate([alike, no])
    around = jnp.concatenate([column[1:], column[-1:]]) - jnp.concatenate([column[:1], column[:-1]])
    gaps = jnp.where(inner, around / jnp.where(span > 0, span, 1), jnp.inf)
    gaps = jnp.where(is_finite, gaps, 0)
    return lax.sort((places, gaps), num_keys=1)[1]


def best_first(values: jax.Array) -> jax.Array:
    """The order (n,) of points by front; within a front, the least crowded first."""
    front = fronts(values)
    places = lax.iota(jnp.int32, len(values))
    by_room = lax.sort((-crowding(values, front), front, places), num_keys=1)
    return lax.sort(by_room[1:], num_keys=1)[1]
