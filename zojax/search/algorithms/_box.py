"""The classifier of RACOS: a box that holds one good point and none of the bad ones.

As in the paper that `racos` refers to: starting from the whole space, a random coordinate k and a random
bad point x- that is still inside are drawn, and the side of the box between x+_k and x-_k moves to a random
place in between, until every bad point is outside. A coordinate without order is fixed at x+_k instead. The
next sample is x+ with a few coordinates redrawn in the box.

In many dimensions that box hardly differs from the space: few cuts fall on a coordinate that is redrawn,
most of them because of ties. Without `parity` all bad points cut those coordinates, and only those, so that
the box is as narrow there as the points allow; it takes no loop, and finds better points.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from zojax.search._random import Random, index_from, to_unit, words
from zojax.search.algorithms._algorithm import bounds_of
from zojax.search.algorithms._arrays import set_row
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


def sample(space: Space, random: Random, points, good, bad, parity) -> jax.Array:
    """A point drawn from a random box around one good point without the bad ones.

    Args:
      random: the current draw is used up.
      points: (n, d).
      good: the index of the good point.
      bad: bool (n,), the bad points.
      parity: cut in random coordinates until no bad point is left, as ZOOpt does; else in every redrawn
        coordinate, at every bad point that differs there.
    """
    x = lax.dynamic_index_in_dim(points, good, 0, keepdims=False)
    if np.any(space.kinds == UNORDERED):
        return _sample_with_fixed(space, random, points, x, bad, parity)
    # Coordinates with an order are never fixed: only the box of those redrawn is needed.
    redrawn = default_shape(space, 1).redrawn
    w = words(random, 2 * redrawn + 2)
    u = to_unit(w[2:])
    coordinates = _distinct(u[:redrawn], space.dimension)
    box = _box_of_cuts if parity else _box_at_once
    lo, hi = box(space, w[:2], points, x, bad, coordinates)
    for j in range(redrawn):
        k = coordinates[j]
        x = set_row(x, k, _between(space, k, u[redrawn + j], lo[j], hi[j]))
    return x


def _box_at_once(space, seed, points, x, bad, coordinates):
    """Every bad point is cut off in each of some coordinates, wherever it differs: their (lo, hi)."""
    low, high = bounds_of(space)
    lows, highs = [], []
    for j in range(len(coordinates)):
        k = coordinates[j]
        column = lax.dynamic_index_in_dim(points, k, 1, keepdims=False)
        u = to_unit(_mix(lax.iota(jnp.uint32, len(bad)) ^ (seed[0] + np.uint32(j))))
        right, r, _ = _cut_at(space, k, u, x[k], column, column)
        cut = bad & (column != x[k])
        lows.append(jnp.max(jnp.where(cut & ~right, r, low[k])))
        highs.append(jnp.min(jnp.where(cut & right, r, high[k])))
    return jnp.stack(lows), jnp.stack(highs)


def _box_of_cuts(space, seed, points, x, bad, coordinates):
    """Cuts in random coordinates, one after the other, until no bad point is left: (lo, hi) of some."""
    low, high = bounds_of(space)

    def more(carry):
        inside, *_, cuts = carry
        return jnp.any(inside) & (cuts < MAX_CUTS)

    def cut(carry):
        inside, lo, hi, seed, cuts = carry
        w0, w1, w2 = _cut_words(seed, cuts)
        out_point = pick(inside, w0)
        k = index_from(to_unit(w1), space.dimension)
        column = lax.dynamic_index_in_dim(points, k, 1, keepdims=False)
        right, r, out = _cut_at(space, k, to_unit(w2), x[k], _entry(column, out_point), column)
        here = coordinates == k
        hi = jnp.where(here & right, jnp.minimum(hi, r), hi)
        lo = jnp.where(here & ~right, jnp.maximum(lo, r), lo)
        return inside & ~out, lo, hi, seed, cuts + 1

    start = bad, low[coordinates], high[coordinates], seed, jnp.int32(0)
    _, lo, hi, *_ = lax.while_loop(more, cut, start)
    return lo, hi


def _sample_with_fixed(space, random, points, x, bad, parity):
    """With coordinates that have no order: those that cut off a bad point stay as they are."""
    d, redrawn = space.dimension, default_shape(space, 1).redrawn
    low, high = bounds_of(space)
    unordered = jnp.asarray(space.kinds == UNORDERED)
    index = jnp.arange(d)

    def more(carry):
        inside, *_, cuts = carry
        return jnp.any(inside) & (cuts < MAX_CUTS)

    def cut(carry):
        inside, lo, hi, usable, free, seed, cuts = carry
        w0, w1, w2 = _cut_words(seed, cuts)
        out_point = pick(inside, w0)
        here = pick(usable, w1)
        if not parity:
            differs = usable & (_row(points, out_point) != x)
            here = jnp.where(jnp.any(differs), pick(differs, w1), here)
        k = index_of(here)
        column = lax.dynamic_index_in_dim(points, k, 1, keepdims=False)
        right, r, out = _cut_at(space, k, to_unit(w2), x[k], _entry(column, out_point), column)
        fixed = unordered[k]
        out = jnp.where(fixed, column != x[k], out)
        hi = jnp.where(here & right & ~fixed, jnp.minimum(hi, r), hi)
        lo = jnp.where(here & ~right & ~fixed, jnp.maximum(lo, r), lo)
        usable = usable & ~(here & fixed)
        left = jnp.any(inside & out)
        free = free & ~(here & fixed & left)
        free = jnp.where(jnp.any(free), free, here)
        usable = jnp.where(jnp.any(usable), usable, True)
        return inside & ~out, lo, hi, usable, free, seed, cuts + 1

    everything = jnp.ones(d, bool)
    w = words(random, 2 * redrawn + 2)
    start = bad, low, high, everything, everything, w[:2], jnp.int32(0)
    _, lo, hi, _, free, *_ = lax.while_loop(more, cut, start)
    w = w[2:]
    for j in range(redrawn):
        # Nothing free is left when fewer are free than are redrawn: the rest stays.
        here = pick(free, w[j])
        k = index_of(here)
        new = _between(space, k, to_unit(w[redrawn + j]), lo[k], hi[k])
        x = jnp.where(here, new, x)
        free = free & (index != k)
    return x


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


def _between(space, k, u, lo, hi):
    """A value of coordinate k in [lo, hi]; a coordinate without order takes its whole range."""
    if space.is_continuous:
        return jnp.minimum(lo + u * (hi - lo), hi)
    discrete = jnp.asarray(space.kinds != 0)[k]
    whole = jnp.minimum(lo + jnp.floor(u * (hi - lo + 1)), hi)
    return jnp.where(discrete, whole, jnp.minimum(lo + u * (hi - lo), hi))


def _cut_words(seed: jax.Array, cuts: jax.Array) -> list[jax.Array]:
    """Three words for a cut, from two that are carried through the loop.

    A hash as short as this one may be fused into whatever reads it, and computed many times.
    """
    start = cuts.astype(jnp.uint32) * np.uint32(3)
    step = np.uint32(0x9E3779B9)
    return [_mix(_mix((start + np.uint32(j)) * step + seed[0]) ^ seed[1]) for j in range(3)]


def pick(mask: jax.Array, word: jax.Array) -> jax.Array:
    """One true entry at random, as a mask; none if there is none.

    The entry whose index, mixed with the word, is largest: one reduction instead of sums of prefixes.
    """
    mixed = jnp.where(mask, _mix(lax.iota(jnp.uint32, mask.shape[0]) ^ word), np.uint32(0))
    return mask & (mixed == jnp.max(mixed))


def _mix(h: jax.Array) -> jax.Array:
    """A bijection of 32-bit words in which every bit moves every other (MurmurHash3's last steps)."""
    h = (h ^ (h >> np.uint32(16))) * np.uint32(0x85EBCA6B)
    h = (h ^ (h >> np.uint32(13))) * np.uint32(0xC2B2AE35)
    return h ^ (h >> np.uint32(16))


def index_of(chosen: jax.Array) -> jax.Array:
    """The position of a mask's one true entry; 0 if there is none."""
    return jnp.max(jnp.where(chosen, lax.iota(jnp.int32, chosen.shape[0]), 0))


def _entry(column: jax.Array, chosen: jax.Array) -> jax.Array:
    return jnp.sum(jnp.where(chosen, column, 0))


def _row(points: jax.Array, chosen: jax.Array) -> jax.Array:
    return lax.dynamic_index_in_dim(points, index_of(chosen), 0, keepdims=False)


def _distinct(u: jax.Array, n: int) -> jax.Array:
    """Distinct random indices below n from uniform numbers, shape of u: Floyd's method."""
    chosen = []
    for j in range(u.shape[0]):
        top = n - u.shape[0] + j
        index = index_from(u[j], top + 1)
        taken = jnp.any(jnp.stack([index == c for c in chosen])) if chosen else jnp.bool_(False)
        chosen.append(jnp.where(taken, top, index))
    return jnp.stack(chosen)
