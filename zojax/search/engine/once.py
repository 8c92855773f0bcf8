"""Finite spaces: no point twice; a small one ends when every point was evaluated."""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from zojax._numerics import float_dtype
from zojax.noise import mix
from zojax.search._random import index_from, to_unit
from zojax.search.algorithms._algorithm import (
    Algorithm,
    bounds_of,
    promoting_all,
    span_of,
)
from zojax.search.algorithms._arrays import set_row
from zojax.search.spaces import ORDERED, UNORDERED, Domain, Space

LISTED = 2**12, 2**16  # points of a space that is always listed, and at most
STEPS = 32  # away from a point that was asked for before, until one is asked for again
SLOTS = 8  # of a bucket of hashes
MOST = 2**21  # hashes, in 16 MB; of more points some are forgotten


def is_listed(space: Space, budget: int) -> bool:
    """Whether all points are remembered one by one, so that every one of them can be reached."""
    always, at_most = LISTED
    return space.size <= always or space.size <= min(at_most, 2 * budget)


def never_twice(algorithm: Algorithm, space: Space, budget: int) -> Algorithm:
    """`algorithm` on a finite space so that no point is asked for twice.

    A point that was asked for before gives way to one nearby: the nearest one where the space is listed,
    else the end of a short random walk. Nothing changes on a continuum, for algorithms that repeat points
    on purpose, nor, beyond small spaces, for those that leave the space.
    """
    if space.size == math.inf or algorithm.repeats_points:
        return algorithm
    if is_listed(space, budget):
        return _listed(algorithm, space)
    return _hashed(algorithm, space) if algorithm.stays_inside else algorithm


class OnceState(NamedTuple):
    inner: Any
    seen: Any  # what `_without_repeats` is given


def _without_repeats(algorithm: Algorithm, nothing: Callable, fresh: Callable, mark: Callable):
    """`algorithm` with a memory: `nothing(budget)` at first, `mark(seen, x)` once x was asked for.

    `fresh(seen, x)` is x, or a point in its place where x was seen.
    """

    def init(key, space, budget):
        return OnceState(algorithm.init(key, space, budget), nothing(budget))

    def ask(space, state):
        x, inner = algorithm.ask(space, state.inner)

        def once(seen, x):
            x = fresh(seen, x)
            return mark(seen, x), x

        seen, x = lax.scan(once, state.seen, x)
        return x, OnceState(inner, seen)

    def tell(space, state, x, values):
        return state._replace(inner=algorithm.tell(space, state.inner, x, values))

    def inject(space, state, x, value):
        return OnceState(algorithm.inject(space, state.inner, x, value), mark(state.seen, x))

    def best(state):
        return algorithm.best(state.inner)

    return promoting_all(
        algorithm._replace(init=init, ask=ask, tell=tell, best=best, inject=inject)
    )


@functools.lru_cache(maxsize=16)  # each holds the points of its space
def _listed(algorithm: Algorithm, space: Space) -> Algorithm:
    """A flag for every point of the space."""
    points = all_points(space)

    def nearest(x, seen):
        """The index of the nearest point that was not seen; 0 where all were, beyond the budget."""
        distance = jnp.sum(jnp.abs((points - x) / span_of(space)), axis=1)
        return jnp.argmin(jnp.where(seen, jnp.inf, distance))

    return _without_repeats(
        algorithm,
        nothing=lambda budget: jnp.zeros(len(points), bool),
        fresh=lambda seen, x: jnp.asarray(points, x.dtype)[nearest(x, seen)],
        mark=lambda seen, x: set_row(seen, nearest(x, seen=False), jnp.bool_(True)),
    )


class Marks(NamedTuple):
    """Hashes of the points that were asked for, 0 in an empty slot, and how many were."""

    buckets: jax.Array  # uint32 (n, SLOTS)
    count: jax.Array


@functools.lru_cache(maxsize=64)
def _hashed(algorithm: Algorithm, space: Space) -> Algorithm:
    """A hash of every point asked for: of 2^32 points a few are taken for seen that were not."""

    def nothing(budget):
        # Half full in the end: a bucket that is full by then, one in a hundred, forgets a point.
        count = 2 ** max(1, math.ceil(math.log2(2 * min(budget, MOST) / SLOTS)))
        return Marks(jnp.zeros((count, SLOTS), jnp.uint32), jnp.uint32(0))

    def look_up(seen, x):
        """Where a point belongs, its hash, and what stands there."""
        own = jnp.maximum(_hash(x, 0), np.uint32(1))
        at = (_hash(x, 1) & np.uint32(len(seen.buckets) - 1)).astype(jnp.int32)
        return at, own, lax.dynamic_index_in_dim(seen.buckets, at, 0, keepdims=False)

    def fresh(seen, x):
        def is_old(carry):
            x, steps = carry
            _, own, bucket = look_up(seen, x)
            return jnp.any(bucket == own) & (steps < STEPS)

        def walk(carry):
            x, steps = carry
            return _step(space, x, steps, mix((seen.count, np.uint32(0)), steps)), steps + 1

        return lax.while_loop(is_old, walk, (x, jnp.uint32(0)))[0]

    def mark(seen, x):
        at, own, bucket = look_up(seen, x)
        # The first empty slot; the least hash gives way where there is none.
        here = (lax.iota(jnp.int32, SLOTS) == jnp.argmin(bucket)) & ~jnp.any(bucket == own)
        # A scatter under vmap: one-hot writes, as of `set_row`, would go through all buckets.
        row = jnp.where(here, own, bucket)
        buckets = lax.dynamic_update_index_in_dim(seen.buckets, row, at, 0)
        return Marks(buckets, seen.count + np.uint32(1))

    return _without_repeats(algorithm, nothing, fresh, mark)


def _hash(x: jax.Array, salt: int) -> jax.Array:
    """A word from an encoded point (d,) and a number."""
    x = jnp.where(x == 0, 0, x.astype(float_dtype()))  # -0.0 is the same point
    bits = lax.bitcast_convert_type(x, jnp.uint32).reshape(-1)
    entries = mix((bits, np.uint32(salt)), lax.iota(jnp.uint32, len(bits)))
    return mix((np.uint32(salt), np.uint32(0)), jnp.sum(entries, dtype=jnp.uint32))


def _step(space: Space, x: jax.Array, steps: jax.Array, word: jax.Array) -> jax.Array:
    """One coordinate moved: where it has an order by 1, later by up to 1 + steps; else to another value."""
    u = to_unit(mix((word, np.uint32(1)), lax.iota(jnp.uint32, 3)))
    k = index_from(u[0], space.dimension)
    low, high = (bound[k] for bound in bounds_of(space))
    far = 1 + jnp.floor(jnp.abs(2 * u[1] - 1) * steps)
    to = x[k] + jnp.where(u[1] < 0.5, -far, far)
    to = jnp.where((to < low) | (to > high), 2 * x[k] - to, to)  # the other way
    other = x[k] + 1 + jnp.floor(u[2] * (high - low))
    other = jnp.where(other > high, other - (high - low + 1), other)
    anywhere = space.from_unit(jnp.broadcast_to(u[2], x.shape))[k]
    kind = jnp.asarray(space.kinds)[k]
    to = jnp.where(kind == ORDERED, to, jnp.where(kind == UNORDERED, other, anywhere))
    return space.clip(set_row(x, k, to.astype(x.dtype)))


def all_points(space: Space) -> np.ndarray:
    """Every encoded point of a finite space, shape (size, d)."""
    points = np.zeros((1, 0))
    for domain in space.domains:
        rows = _values(domain)
        left, right = len(points), len(rows)
        points = np.concatenate([np.repeat(points, right, 0), np.tile(rows, (left, 1))], axis=1)
    return points


def _values(domain: Domain) -> np.ndarray:
    """Every encoded value of a domain, an array of them included, flat, one a row."""
    values, shape = domain.values(), (domain.count, *domain.shape)
    if np.shape(values) != shape:
        raise ValueError(
            f"values() of {domain} must have shape (count, *shape) = {shape}, got {np.shape(values)}."
        )
    if domain.snap is not None and not np.allclose(domain.snap(values), values, rtol=0, atol=1e-9):
        raise ValueError(f"values() of {domain} must hold only values that its snap leaves alone.")
    return np.reshape(values, (len(values), -1))
