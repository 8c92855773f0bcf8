"""The box of RACOS: it holds one good point and none of the bad points.

The paper (see `racos`) starts from the whole space. It draws a random coordinate k and a random bad point
inside the box, and moves one side of the box to a random place between the good and the bad value. It
repeats until no bad point is inside. A coordinate without order is fixed at the good value instead. The
next sample is the good point with a few coordinates redrawn in the box: `parity=True`.

In many dimensions such a box hardly differs from the space, because few cuts fall on a redrawn coordinate.
Without `parity`, every bad point cuts the redrawn coordinates, and only these. The box is as narrow there
as the points allow. This takes no loop and finds better points.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from zojax.noise import scramble
from zojax.search._random import Random, index_from, to_unit, words
from zojax.search.algorithms._arrays import index_of, pick, set_row
from zojax.search.algorithms._sizes import num_redrawn
from zojax.search.algorithms._toolkit import bounds_of
from zojax.search.spaces import CONTINUOUS, ORDERED, UNORDERED, Space

MAX_CUTS = 1000  # no cut separates a bad point that equals the good one


def sample(space: Space, random: Random, points, good, bad, parity, region=None) -> jax.Array:
    """A point from a random box around one good point, without the bad points.

    `good` is an index of `points` (n, d), `bad` a mask (n,). The current draw of `random` is used up. With
    `parity`, cuts fall on random coordinates until no bad point is left, as in ZOOpt. Otherwise, each
    redrawn coordinate is cut at every bad point that differs there. Redrawn coordinates stay within the
    bounds `region` (2, d), if given.
    """
    x = lax.dynamic_index_in_dim(points, good, 0, keepdims=False)
    if np.any(space.kinds == UNORDERED):
        return _sample_with_fixed(space, random, points, x, bad, parity, region)
    # Without unordered coordinates nothing is fixed, so the redrawn sides of the box are enough.
    redrawn = num_redrawn(space)
    w = words(random, 2 * redrawn + 2)
    u = to_unit(w[2:])
    coordinates = _distinct(u[:redrawn], space.dimension)
    box = _box_of_cuts if parity else _box_at_once
    lo, hi = box(space, w[:2], points, x, bad, coordinates)
    if region is not None:
        lo, hi = (jnp.clip(side, *region[:, coordinates]) for side in (lo, hi))
    for j in range(redrawn):
        k = coordinates[j]
        x = set_row(x, k, _between(space, k, u[redrawn + j], lo[j], hi[j]))
    return x


def _box_at_once(space, seed, points, x, bad, coordinates):
    """(lo, hi) of some coordinates: each is cut at every bad point that differs there."""
    low, high = bounds_of(space)
    lows, highs = [], []
    for j in range(len(coordinates)):
        k = coordinates[j]
        column = lax.dynamic_index_in_dim(points, k, 1, keepdims=False)
        u = to_unit(scramble(lax.iota(jnp.uint32, len(bad)) ^ (seed[0] + np.uint32(j))))
        right, r, _ = _cut_at(space, k, u, x[k], column, column)
        cut = bad & (column != x[k])
        lows.append(jnp.max(jnp.where(cut & ~right, r, low[k])))
        highs.append(jnp.min(jnp.where(cut & right, r, high[k])))
    return jnp.stack(lows), jnp.stack(highs)


def _box_of_cuts(space, seed, points, x, bad, coordinates):
    """(lo, hi) of some coordinates, after cuts of random coordinates until no bad point is left."""
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


def _sample_with_fixed(space, random, points, x, bad, parity, region):
    """With unordered coordinates: those that cut off a bad point stay as they are."""
    redrawn = num_redrawn(space)
    w = words(random, 2 * redrawn + 2)
    lo, hi, free = _box_with_fixed(space, w[:2], points, x, bad, parity)
    if space.is_conditional:
        free = free & space.active(x)
    if region is not None:
        lo, hi = jnp.clip(lo, *region), jnp.clip(hi, *region)
    index, w = jnp.arange(space.dimension), w[2:]
    for j in range(redrawn):
        # With fewer free coordinates than draws, nothing is picked and x stays.
        here = pick(free, w[j])
        k = index_of(here)
        new = _between(space, k, to_unit(w[redrawn + j]), lo[k], hi[k])
        x = jnp.where(here, new, x)
        free = free & (index != k)
    return x


def _box_with_fixed(space, seed, points, x, bad, parity):
    """(lo, hi) of all coordinates, and bool (d,): which are free, that is, not fixed."""
    unordered = jnp.asarray(space.kinds == UNORDERED)

    def more(carry):
        inside, *_, cuts = carry
        return jnp.any(inside) & (cuts < MAX_CUTS)

    def cut(carry):
        inside, lo, hi, usable, free, seed, cuts = carry
        w0, w1, w2 = _cut_words(seed, cuts)
        out_point = pick(inside, w0)
        here = pick(usable, w1)
        if not parity:
            out_row = lax.dynamic_index_in_dim(points, index_of(out_point), 0, keepdims=False)
            differs = usable & (out_row != x)
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

    everything = jnp.ones(space.dimension, bool)
    start = bad, *bounds_of(space), everything, everything, seed, jnp.int32(0)
    _, lo, hi, _, free, *_ = lax.while_loop(more, cut, start)
    return lo, hi, free


def _cut_at(space, k, u, good, bad, column):
    """A cut of coordinate k between a good and a bad value: (from the right, at, who is outside)."""
    right = good < bad
    r = bad + u * (good - bad)
    if np.any(space.kinds == ORDERED):
        # Integers: the good value stays inside, the bad value is outside.
        ordered = jnp.asarray(space.kinds == ORDERED)[k]
        gap = jnp.abs(good - bad)
        step = jnp.minimum(jnp.floor(u * gap), jnp.maximum(gap - 1, 0))
        r = jnp.where(ordered, jnp.where(right, good + step, good - step), r)
        out_right = jnp.where(ordered, column > r, column >= r)
        out_left = jnp.where(ordered & (gap > 0), column < r, column <= r)
        return right, r, jnp.where(right, out_right, out_left)
    return right, r, jnp.where(right, column >= r, column <= r)


def _between(space, k, u, lo, hi):
    """A value of coordinate k in [lo, hi]. An unordered coordinate takes its whole range."""
    if space.is_continuous:
        return jnp.minimum(lo + u * (hi - lo), hi)
    discrete = jnp.asarray(space.kinds != CONTINUOUS)[k]
    whole = jnp.minimum(lo + jnp.floor(u * (hi - lo + 1)), hi)
    return jnp.where(discrete, whole, jnp.minimum(lo + u * (hi - lo), hi))


def _cut_words(seed: jax.Array, cuts: jax.Array) -> list[jax.Array]:
    """Three words for a cut, from the two words that the loop carries.

    This short hash is cheap, even when XLA fuses it into several consumers and computes it again.
    """
    start = cuts.astype(jnp.uint32) * np.uint32(3)
    step = np.uint32(0x9E3779B9)
    return [scramble(scramble((start + np.uint32(j)) * step + seed[0]) ^ seed[1]) for j in range(3)]


def _entry(column: jax.Array, chosen: jax.Array) -> jax.Array:
    return jnp.sum(jnp.where(chosen, column, 0))


def _distinct(u: jax.Array, n: int) -> jax.Array:
    """Distinct random indices below n from uniform numbers, shape of u, by Floyd's method."""
    chosen: list[jax.Array] = []
    for j in range(u.shape[0]):
        top = n - u.shape[0] + j
        index = index_from(u[j], top + 1)
        taken = jnp.any(jnp.stack([index == c for c in chosen])) if chosen else jnp.bool_(False)
        chosen.append(jnp.where(taken, top, index))
    return jnp.stack(chosen)
