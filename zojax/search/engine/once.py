"""Finite and conditional spaces: no point is asked for twice."""

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
from zojax.search._random import to_unit
from zojax.search.algorithms._active import active_coordinate
from zojax.search.algorithms._algorithm import Algorithm
from zojax.search.algorithms._arrays import set_row
from zojax.search.algorithms._toolkit import bounds_of, promoting_all, span_of
from zojax.search.spaces import ORDERED, UNORDERED, Space
from zojax.search.spaces._listing import all_points

LISTED = 2**12, 2**16  # points of a space that is always listed, and of the largest listed one
STEPS = 32  # of the walk away from a known point, before the search gives up
SLOTS = 8  # hashes of a bucket
MOST = 2**21  # hashes, in 16 MB; beyond that, some points are forgotten


def is_listed(space: Space, budget: int) -> bool:
    """Whether each point has its own flag, so that the search can reach every point."""
    always, at_most = LISTED
    return space.size <= always or space.size <= min(at_most, 2 * budget)


def never_twice(algorithm: Algorithm, space: Space, budget: int) -> Algorithm:
    """The algorithm with a memory, which replaces known points on a finite or conditional space.

    A listed space takes the nearest new point. A larger space takes the end of a short random walk. The
    algorithm is returned unchanged on other spaces and for noisy functions. On larger spaces, so is one
    that leaves the space.
    """
    is_covered = space.size < math.inf or space.is_conditional
    if algorithm.repeats_points or not is_covered:
        return algorithm
    if is_listed(space, budget):
        return _listed(algorithm, space)
    return _hashed(algorithm) if algorithm.stays_inside else algorithm


class OnceState(NamedTuple):
    """The algorithm's state, and the memory of asked points."""

    inner: Any
    seen: Any


def _without_repeats(algorithm: Algorithm, nothing: Callable, fresh: Callable, mark: Callable):
    """The algorithm with a memory: `nothing(budget)` at first, `mark(seen, x)` after asking for x.

    `fresh(space, seen, x)` is x, or a replacement if x was seen.
    """

    def init(key, space, budget):
        return OnceState(algorithm.init(key, space, budget), nothing(budget))

    def ask(space, state):
        x, inner = algorithm.ask(space, state.inner)

        def once(seen, x):
            x = fresh(space, seen, x)
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


@functools.lru_cache(maxsize=16)  # each entry holds all points of a space
def _listed(algorithm: Algorithm, space: Space) -> Algorithm:
    """The algorithm with a flag for every point of the space."""
    points = all_points(space)

    def nearest(x, seen):
        """The index of the nearest unseen point; 0 if there is none, which is beyond the budget."""
        distance = jnp.sum(jnp.abs((points - x) / span_of(space)), axis=1)
        return jnp.argmin(jnp.where(seen, jnp.inf, distance))

    return _without_repeats(
        algorithm,
        nothing=lambda budget: jnp.zeros(len(points), bool),
        fresh=lambda _, seen, x: jnp.asarray(points, x.dtype)[nearest(x, seen)],
        mark=lambda seen, x: set_row(seen, nearest(x, seen=False), jnp.bool_(True)),
    )


class Marks(NamedTuple):
    """Hashes of the asked points, with 0 in empty slots, and their number."""

    buckets: jax.Array  # uint32 (n, SLOTS)
    marked: jax.Array


@functools.lru_cache(maxsize=64)
def _hashed(algorithm: Algorithm) -> Algorithm:
    """The algorithm with a 32-bit hash of every asked point. Collisions hide a few new points."""
    return _without_repeats(algorithm, _no_marks, _walk_to_new, _mark)


def _no_marks(budget: int) -> Marks:
    # Half full at the end. Then 1 in 100 buckets is full, and forgets a point.
    buckets = 2 ** max(1, math.ceil(math.log2(2 * min(budget, MOST) / SLOTS)))
    return Marks(jnp.zeros((buckets, SLOTS), jnp.uint32), jnp.uint32(0))


def _look_up(seen: Marks, x: jax.Array):
    """(the place of a point's bucket, the point's hash, the bucket)."""
    own = jnp.maximum(_hash(x, 0), np.uint32(1))
    at = (_hash(x, 1) & np.uint32(len(seen.buckets) - 1)).astype(jnp.int32)
    return at, own, lax.dynamic_index_in_dim(seen.buckets, at, 0, keepdims=False)


def _walk_to_new(space: Space, seen: Marks, x: jax.Array) -> jax.Array:
    """The first new point of a random walk from x, or its last point."""

    def is_old(carry):
        x, steps = carry
        _, own, bucket = _look_up(seen, x)
        return jnp.any(bucket == own) & (steps < STEPS)

    def walk(carry):
        x, steps = carry
        return _step(space, x, steps, mix((seen.marked, np.uint32(0)), steps)), steps + 1

    return lax.while_loop(is_old, walk, (x, jnp.uint32(0)))[0]


def _mark(seen: Marks, x: jax.Array) -> Marks:
    at, own, bucket = _look_up(seen, x)
    # The first empty slot, or the slot of the least hash.
    here = (lax.iota(jnp.int32, SLOTS) == jnp.argmin(bucket)) & ~jnp.any(bucket == own)
    # A scatter under vmap. The one-hot write of `set_row` would touch all buckets.
    row = jnp.where(here, own, bucket)
    buckets = lax.dynamic_update_index_in_dim(seen.buckets, row, at, 0)
    return Marks(buckets, seen.marked + np.uint32(1))


def _hash(x: jax.Array, salt: int) -> jax.Array:
    """A 32-bit hash of an encoded point (d,) and a number."""
    x = jnp.where(x == 0, 0, x.astype(float_dtype()))  # -0.0 is the same point
    bits = lax.bitcast_convert_type(x, jnp.uint32).reshape(-1)
    entries = mix((bits, np.uint32(salt)), lax.iota(jnp.uint32, len(bits)))
    return mix((np.uint32(salt), np.uint32(0)), jnp.sum(entries, dtype=jnp.uint32))


def _step(space: Space, x: jax.Array, steps: jax.Array, word: jax.Array) -> jax.Array:
    """x with one coordinate moved: by 1, later by up to 1 + steps; without order, to another value."""
    u = to_unit(mix((word, np.uint32(1)), lax.iota(jnp.uint32, 3)))
    k = active_coordinate(space, x, u[0])
    low, high = (bound[k] for bound in bounds_of(space))
    far = 1 + jnp.floor(jnp.abs(2 * u[1] - 1) * steps)
    to = x[k] + jnp.where(u[1] < 0.5, -far, far)
    to = jnp.where((to < low) | (to > high), 2 * x[k] - to, to)  # in the other direction
    other = x[k] + 1 + jnp.floor(u[2] * (high - low))
    other = jnp.where(other > high, other - (high - low + 1), other)
    anywhere = space.in_box(jnp.broadcast_to(u[2], x.shape))[k]
    kind = jnp.asarray(space.kinds)[k]
    to = jnp.where(kind == ORDERED, to, jnp.where(kind == UNORDERED, other, anywhere))
    return space.clip(set_row(x, k, to.astype(x.dtype)))
