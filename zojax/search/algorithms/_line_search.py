"""The line search of `coordinate_search`: probes along one coordinate, one evaluation at a time."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from zojax._numerics import float_dtype
from zojax.search.algorithms._toolkit import bounds_of, select
from zojax.search.spaces import CONTINUOUS, ORDERED, Space


class Line(NamedTuple):
    """A line search along coordinate k: the nearest worse points on both sides of the best point.

    `offsets` (2,) and `values` (2,) belong to the point below and the point above, relative to the best
    point, where `known`.
    """

    active: jax.Array
    offsets: jax.Array
    values: jax.Array
    known: jax.Array
    step: jax.Array  # of the next probe
    moved: jax.Array  # the distance since the visit began
    leapt: jax.Array  # whether it began with a successful reset or jump


def line_step(space, state, k, u):
    """(the next probe, relative to the best point; whether it is the last)."""
    line = state.line
    low, high = bounds_of(space)
    below, above = state.x[k] - low[k], high[k] - state.x[k]
    least = least_step(space)[k]
    step = jnp.maximum(jnp.where(line.active, line.step, state.scales[k]), least)
    none_known = ~jnp.any(line.known)
    up = jnp.where(none_known, state.signs[k] > 0, line.known[0])
    room = jnp.where(up, above, below)
    blocked = room < jnp.minimum(step, least)
    # At a bound: first the other side, then between the two.
    up = jnp.where(none_known & blocked, ~up, up)
    room = jnp.where(up, above, below)
    probe = jnp.where(up, 1, -1) * jnp.minimum(step, room)
    both = jnp.all(line.known)
    between = jnp.where(both, _vertex(line, u), 0.5 * jnp.sum(line.offsets))
    last = both | (blocked & ~none_known)
    return jnp.where(last, between, probe), last


def _vertex(line: Line, u):
    """The vertex of the parabola through both neighbours and the lower best point."""
    (a, b), (va, vb) = line.offsets, line.values
    finite = jnp.isfinite(va) & jnp.isfinite(vb)
    top = vb * a * a - va * b * b
    bottom = vb * a - va * b
    t = 0.5 * top / jnp.where(bottom == 0, 1.0, bottom)
    t = jnp.where(finite & (bottom != 0), t, 0.0)
    t = jnp.clip(t, 0.9 * a, 0.9 * b)
    tiny = 1e-3 * jnp.minimum(-a, b)
    return jnp.where(jnp.abs(t) < tiny, jnp.where(u < 0.5, -tiny, tiny), t)


def continue_line(space, k, state, better, value):
    """(the line after a probe, whether the visit is over)."""
    line, (_, move, last) = state.line, state.proposal
    up = move > 0
    side = jnp.stack([~up, up])
    # A worse probe becomes the neighbour on its side. After a better probe, the old best point is the
    # neighbour behind, and the side ahead is unknown. Values are relative to the best.
    line = line._replace(active=jnp.bool_(True))
    missed = line._replace(
        offsets=jnp.where(side, move, line.offsets),
        values=jnp.where(side, value - state.value, line.values),
        known=line.known | side,
        step=jnp.abs(move),
    )
    hit = line._replace(
        offsets=jnp.where(side, 0.0, -move),
        values=jnp.where(side, 0.0, state.value - value),
        known=~side,
        step=2 * jnp.abs(move),
        moved=line.moved + move,
    )
    after = select(better, hit, missed)
    ends = last | (move == 0)
    if np.any(space.kinds == ORDERED):
        # Nothing lies between neighbours one step away.
        narrow = jnp.asarray(space.kinds == ORDERED)[k] & jnp.all(jnp.abs(after.offsets) <= 1)
        ends = ends | (narrow & jnp.all(after.known))
    return after, ends


def no_line() -> Line:
    """A line search that has not begun."""
    zero, no = jnp.zeros((), float_dtype()), jnp.bool_(False)
    pair = jnp.zeros(2, float_dtype())
    return Line(no, pair, pair, jnp.zeros(2, bool), zero, zero, no)


def least_step(space: Space):
    """The least step of each coordinate: 1 for integers, else a few roundings of its range."""
    resolution = 8 * float(jnp.finfo(float_dtype()).eps)
    least = jnp.where(space.kinds == CONTINUOUS, resolution * (space.high - space.low), 1.0)
    return jnp.asarray(least, float_dtype())


def to_coordinate(space, k, value):
    """The nearest value of coordinate k."""
    low, high = bounds_of(space)
    value = jnp.clip(value, low[k], high[k])
    if space.is_continuous:
        return value
    return jnp.where(jnp.asarray(space.kinds != CONTINUOUS)[k], jnp.round(value), value)
