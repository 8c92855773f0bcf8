"""The classifier of RACOS: a box that holds one good point and none of the bad ones.

Yu, Qian & Hu, "Derivative-free optimization via classification", AAAI 2016. Starting from the whole space,
a random coordinate k and a random bad point x- that is still inside are drawn, and the side of the box
between x+_k and x-_k moves to a random place in between, until every bad point is outside. A coordinate
without order is fixed at x+_k instead. The next sample is x+ with a few coordinates redrawn in the box.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from zojax.search._algorithm import Random, draw, index_from
from zojax.search._arrays import set_row
from zojax.search.spaces import ORDERED, UNORDERED, Space

MAX_CUTS = 1000  # a bad point that equals x+ cannot be cut off


class Shape(NamedTuple):
    """Sizes that ZOOpt derives from budget and space: sets and redrawn coordinates."""

    positives: int
    negatives: int
    redrawn: int


def default_shape(space: Space, budget: int) -> Shape:
    """ZOOpt's choice: 4 to 22 points of which 1 or 2 are positive; 1 to 5 redrawn coordinates."""
    d = space.dimension
    total, positives = next(
        sizes
        for limit, sizes in ((50, (4, 1)), (100, (6, 1)), (1000, (12, 2)), (np.inf, (22, 2)))
        if budget <= limit
    )
    limits = (10, 50, 100, 1000) if space.is_discrete else (100, 1000)
    redrawn = 1 + sum(d > limit for limit in limits)
    return Shape(positives, total - positives, min(redrawn, d))


def sample(space: Space, random: Random, x: jax.Array, negatives: jax.Array, redrawn: int, parity):
    """A point drawn from a random box around `x` without `negatives`; (point, random)."""
    if np.any(space.kinds == UNORDERED):
        return _sample_with_fixed(space, random, x, negatives, redrawn, parity)
    return _sample_ordered(space, random, x, negatives, redrawn, parity)


def _sample_ordered(space, random, x, negatives, redrawn, parity):
    """Coordinates with an order are never fixed: only the box of those redrawn is needed."""
    d = space.dimension
    u, random = draw(random, 2 * redrawn)
    coordinates = _distinct(u[:redrawn], d)
    low, high = _bounds(space, x.dtype)

    def more(carry):
        inside, *_, cuts = carry
        return jnp.any(inside) & (cuts < MAX_CUTS)

    def cut(carry):
        inside, lo, hi, random, cuts = carry
        u, random = draw(random, 3)
        bad = _pick(inside, u[0])
        k = _cut_coordinate(u[1], x, negatives[bad], parity)
        column = lax.dynamic_index_in_dim(negatives, k, 1, keepdims=False)
        right, r, out = _cut_at(space, k, u[2], x[k], column[bad], column)
        here = coordinates == k
        hi = jnp.where(here & right, jnp.minimum(hi, r), hi)
        lo = jnp.where(here & ~right, jnp.maximum(lo, r), lo)
        return inside & ~out, lo, hi, random, cuts + 1

    start = (
        jnp.ones(len(negatives), bool),
        low[coordinates],
        high[coordinates],
        random,
        jnp.int32(0),
    )
    _, lo, hi, random, _ = lax.while_loop(more, cut, start)
    for j in range(redrawn):
        k = coordinates[j]
        new = _between(space, k, u[redrawn + j], lo[j], hi[j])
        x = set_row(x, k, new)
    return x, random


def _sample_with_fixed(space, random, x, negatives, redrawn, parity):
    """With coordinates that have no order: those that cut off a bad point stay as they are."""
    d = space.dimension
    low, high = _bounds(space, x.dtype)
    unordered = jnp.asarray(space.kinds == UNORDERED)
    column_index = jnp.arange(d)

    def more(carry):
        inside, *_, cuts = carry
        return jnp.any(inside) & (cuts < MAX_CUTS)

    def cut(carry):
        inside, lo, hi, usable, free, random, cuts = carry
        u, random = draw(random, 3)
        bad = _pick(inside, u[0])
        k = _pick(usable, u[1])
        if not parity:
            differs = usable & (negatives[bad] != x)
            k = jnp.where(jnp.any(differs), _pick(differs, u[1]), k)
        column = lax.dynamic_index_in_dim(negatives, k, 1, keepdims=False)
        right, r, out = _cut_at(space, k, u[2], x[k], column[bad], column)
        fixed = unordered[k]
        out = jnp.where(fixed, column != x[k], out)
        here = column_index == k
        hi = jnp.where(here & right & ~fixed, jnp.minimum(hi, r), hi)
        lo = jnp.where(here & ~right & ~fixed, jnp.maximum(lo, r), lo)
        usable = usable & ~(here & fixed)
        left = jnp.any(inside & out)
        free = free & ~(here & fixed & left)
        free = jnp.where(jnp.any(free), free, here)
        usable = jnp.where(jnp.any(usable), usable, True)
        return inside & ~out, lo, hi, usable, free, random, cuts + 1

    everything = jnp.ones(d, bool)
    start = (
        jnp.ones(len(negatives), bool),
        *(low, high, everything, everything),
        *(random, jnp.int32(0)),
    )
    _, lo, hi, _, free, random, _ = lax.while_loop(more, cut, start)
    u, random = draw(random, 2 * redrawn)
    for j in range(redrawn):
        # Nothing free is left when fewer are free than are redrawn: the rest stays.
        k = _pick(free, u[j])
        new = _between(space, k, u[redrawn + j], lo[k], hi[k])
        x = jnp.where(jnp.any(free), set_row(x, k, new), x)
        free = free & (column_index != k)
    return x, random


def _cut_at(space, k, u, good, bad, column):
    """Where coordinate k is cut between a good and a bad value: (from the right, at, who is out)."""
    right = good < bad
    r = bad + u * (good - bad)
    if np.any(space.kinds == ORDERED):
        # Integers: the cut leaves good inside and bad outside.
        ordered = jnp.asarray(space.kinds == ORDERED)[k]
        gap = jnp.abs(good - bad)
        step = jnp.minimum(jnp.floor(u * gap), jnp.maximum(gap - 1, 0))
        r = jnp.where(ordered, jnp.where(right, good + step, good - step), r)
        out_right = jnp.where(ordered, column > r, column >= r)
        out_left = jnp.where(ordered & (gap > 0), column < r, column <= r)
        return right, r, jnp.where(right, out_right, out_left)
    return right, r, jnp.where(right, column >= r, column <= r)


def _cut_coordinate(u, x, bad, parity):
    """ZOOpt draws any coordinate (parity); else one in which the bad point differs."""
    d = x.shape[0]
    if parity:
        return index_from(u, d)
    differs = x != bad
    return jnp.where(jnp.any(differs), _pick(differs, u), index_from(u, d))


def _between(space, k, u, lo, hi):
    """A value of coordinate k in [lo, hi]; a coordinate without order takes its whole range."""
    if space.is_continuous:
        return lo + u * (hi - lo)
    discrete = jnp.asarray(space.kinds != 0)[k]
    whole = jnp.minimum(lo + jnp.floor(u * (hi - lo + 1)), hi)
    return jnp.where(discrete, whole, lo + u * (hi - lo))


def _pick(mask: jax.Array, u: jax.Array) -> jax.Array:
    """The index of a random true entry; the last index if there is none."""
    rank = jnp.cumsum(mask)
    target = jnp.floor(u * rank[-1]).astype(rank.dtype)
    return jnp.minimum(jnp.sum(rank <= target), mask.shape[0] - 1)


def _distinct(u: jax.Array, n: int) -> jax.Array:
    """Distinct random indices below n from uniform numbers, shape of u: Floyd's method."""
    chosen = []
    for j in range(u.shape[0]):
        top = n - u.shape[0] + j
        index = index_from(u[j], top + 1)
        taken = jnp.any(jnp.stack([index == c for c in chosen])) if chosen else jnp.bool_(False)
        chosen.append(jnp.where(taken, top, index))
    return jnp.stack(chosen)


def _bounds(space: Space, dtype):
    return jnp.asarray(space.low, dtype), jnp.asarray(space.high, dtype)
