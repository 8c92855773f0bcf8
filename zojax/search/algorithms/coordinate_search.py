"""Coordinate search with learnt scales: line searches, resets and jumps, each as often as it pays."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from zojax._numerics import float_dtype
from zojax.search._random import Random, advance, draw, index_from, make_random, words
from zojax.search.algorithms._algorithm import (
    Algorithm,
    bounds_of,
    keep_best,
    recommended,
    reused,
    sequential,
    span_of,
    where,
)
from zojax.search.algorithms._arrays import set_row
from zojax.search.spaces import CONTINUOUS, ORDERED, UNORDERED, Space

LINE, RESET, JUMP, SCATTER = range(4)
MEMORY = 16  # lengths of jumps that are remembered
_NEEDS_ORDER = np.array([True, False, True, False])
SHRINK, GROW = 0.25, 4.0  # of a scale in one visit
FLOOR = 0.1  # the least share of each operator


class Line(NamedTuple):
    """A line search through coordinate k: the nearest worse points on both sides of the best.

    `offsets` (2,) and `values` (2,) describe the point below and the point above, relative to the best,
    where `known`.
    """

    active: jax.Array
    offsets: jax.Array
    values: jax.Array
    known: jax.Array
    step: jax.Array  # of the next probe
    moved: jax.Array  # the way gone since the visit began
    leapt: jax.Array  # whether it began with a successful reset or jump


class Proposal(NamedTuple):
    """What the last ask did."""

    operator: jax.Array
    move: jax.Array
    last: jax.Array  # whether the visit ends with it, whatever comes out


class CoordinateSearchState(NamedTuple):
    random: Random
    x: jax.Array
    value: jax.Array
    order: jax.Array  # in which coordinates are visited
    visits: jax.Array
    scales: jax.Array  # (d,)
    signs: jax.Array  # (d,) of the last move that paid
    line: Line
    proposal: Proposal
    gains: jax.Array  # (operators,) recent improvement
    costs: jax.Array  # (operators,) and evaluations
    jumps: jax.Array  # (MEMORY,) lengths, in units of the range
    num_jumps: jax.Array


@reused
def coordinate_search() -> Algorithm:
    """Visits one coordinate after the other, and learns how far to step, and how.

    A visit of coordinate k is one of

    - **line**: probe at the coordinate's scale s_k on the side that paid last, then on the other (going
      on at twice the distance while it pays), then at the vertex of the parabola through three points.
      The way that was gone becomes the next scale, at least s_k / 4, at most 4 s_k;
    - **reset**: draw the coordinate anew from its whole range (what `coordinate_reset` does);
    - **jump**: step as far as an earlier successful reset or jump led, after its line search, on any
      coordinate: wells at regular distances are left in one step;
    - **scatter**: reset two or three coordinates at once (swaps in discrete spaces).

    Improvement per evaluation, remembered for some 4 d evaluations, decides how often each is used. A
    coordinate without order is always reset; integers step by at least 1. The design is new; the parabola
    of its line search is Powell's, the credit that of adaptive operator selection.

    Returns:
      An `Algorithm`.

    References:
      Powell, `An efficient method for finding the minimum of a function of several variables without
      calculating derivatives <https://doi.org/10.1093/comjnl/7.2.155>`_, 1964.

    >>> from zojax import search
    >>> import jax.numpy as jnp
    >>> def rastrigin(x):
    ...     return jnp.sum(x**2 - 10 * jnp.cos(2 * jnp.pi * x) + 10)
    >>> found = search.minimize(rastrigin, search.uniform(-4, 6, (20,)), search.coordinate_search(),
    ...                         budget=3000, key=0)
    >>> bool(found.best_value < 1)
    True
    """
    return Algorithm(_init, _ask, sequential(_tell), recommended, _inject)


def _init(key, space: Space, budget: int) -> CoordinateSearchState:
    del budget
    d, dtype, random = space.dimension, float_dtype(), make_random(key)
    return CoordinateSearchState(
        random=advance(random),
        x=space.sample(key, 1)[0].astype(dtype),
        value=jnp.asarray(jnp.inf),
        order=jnp.argsort(words(random, d)).astype(jnp.uint32),
        visits=jnp.uint32(0),
        scales=0.25 * span_of(space),
        signs=jnp.ones(d, dtype),
        line=_no_line(),
        proposal=Proposal(jnp.int32(RESET), jnp.zeros((), dtype), jnp.bool_(True)),
        gains=jnp.zeros(4, dtype),
        costs=jnp.zeros(4, dtype),
        jumps=jnp.full(MEMORY, 0.1, dtype),
        num_jumps=jnp.uint32(0),
    )


def _ask(space: Space, state: CoordinateSearchState):
    u, random = draw(state.random, 11)
    line = state.line
    k = _visited(space, state)
    operator = jnp.where(line.active, LINE, _choose_operator(space, state, k, u[0]))
    step, last = _line_step(space, state, k, u[1])
    xk = state.x[k]
    target = jnp.stack(
        [
            xk + step,
            _reset(space, k, xk, u[2]),
            xk + _jump(space, state, k, u[3:6]),
            _reset(space, k, xk, u[2]),
        ]
    )[operator]
    entry = _to_coordinate(space, k, target)
    x = set_row(state.x, k, entry)
    x = _scatter(space, x, operator == SCATTER, u[6:])
    proposal = Proposal(operator, entry - xk, last)
    return space.clip(x)[None], state._replace(random=random, proposal=proposal)


def _tell(space: Space, state: CoordinateSearchState, x, value) -> CoordinateSearchState:
    operator, move, _ = state.proposal
    k = _visited(space, state)
    is_line = operator == LINE
    better = value < state.value
    # A point as good as the best may be walked to, but is no success.
    accepted = better | (~is_line & (value <= state.value))
    gain = jnp.where(better & jnp.isfinite(state.value), state.value - value, 0.0)
    after, ends = _continue_line(space, k, state, better, value)
    # A success elsewhere is followed by a line search from the new place.
    lands = better & ((operator == RESET) | (operator == JUMP))
    lands = lands & (jnp.asarray(space.kinds)[k] != UNORDERED)
    span = span_of(space)[k]
    scale = state.scales[k]
    width = jnp.where(operator == JUMP, 0.1 * jnp.abs(move), 0.05 * span)
    landed = _no_line()._replace(
        active=jnp.bool_(True), step=jnp.maximum(scale, width), moved=move, leapt=jnp.bool_(True)
    )
    ends = jnp.where(is_line, ends, ~lands)
    line = where(is_line, after, landed)
    state = _learn(space, state, k, ends & is_line, line, better, move)
    line = where(ends, _no_line(), line)
    memory = 1 - 1 / (4 * space.dimension)
    used = jnp.arange(4) == operator
    return state._replace(
        x=jnp.where(accepted, x, state.x),
        value=jnp.where(accepted, value, state.value),
        visits=state.visits + ends,
        line=line,
        gains=state.gains * memory + used * gain,
        costs=state.costs * memory + used,
    )


def _visited(space: Space, state: CoordinateSearchState) -> jax.Array:
    """The coordinate of this visit."""
    return state.order[lax.rem(state.visits, np.uint32(space.dimension))]


def _inject(space, state: CoordinateSearchState, x, value) -> CoordinateSearchState:
    del space
    line = where(value < state.value, _no_line(), state.line)
    return keep_best(state, x, value)._replace(line=line)


# --- choosing -----------------------------------------------------------------------------------


def _choose_operator(space, state, k, u):
    """Each operator as often as it pays, and no less than its floor; a line takes some 3 evaluations."""
    rate = state.gains / jnp.maximum(state.costs, 1e-9)
    total = jnp.sum(rate)
    share = rate / jnp.where(total > 0, total, 1.0)
    share = jnp.maximum(share, FLOOR) / np.array([3.0, 1.0, 1.0, 1.0])
    unordered = jnp.asarray(space.kinds == UNORDERED)[k]
    share = jnp.where(unordered & _NEEDS_ORDER, 0.0, share)
    if space.dimension < 3:
        share = jnp.where(jnp.arange(4) == SCATTER, 0.0, share)
    edges = jnp.cumsum(share)
    operator = jnp.sum(u * edges[-1] >= edges[:-1]).astype(jnp.int32)
    # The first evaluation is that of the start, wherever it is.
    return jnp.where(jnp.isinf(state.value), RESET, operator)


def _reset(space, k, current, u):
    """A uniform value of coordinate k; another one than now where values have no order."""
    low, high = bounds_of(space)
    low, high = low[k], high[k]
    value = low + u * (high - low)
    if space.is_continuous:
        return value
    kind = jnp.asarray(space.kinds)[k]
    count = high - low + 1
    other = low + jnp.mod(current - low + 1 + jnp.floor(u * (count - 1)), count)
    whole = jnp.minimum(low + jnp.floor(u * count), high)
    return jnp.where(kind == UNORDERED, other, jnp.where(kind == ORDERED, whole, value))


def _jump(space, state, k, u):
    length = state.jumps[index_from(u[0], MEMORY)] * (1 + 0.02 * (u[1] - 0.5))
    length = length * span_of(space)[k]
    if not space.is_continuous:
        length = jnp.maximum(length, jnp.asarray(space.kinds != CONTINUOUS, length.dtype)[k])
    return jnp.where(u[2] < 0.5, -length, length)


def _scatter(space, x, wanted, u):
    """Resets one or two coordinates more, where wanted."""
    if space.dimension < 3:
        return x
    for j, also in ((0, True), (1, u[4] < 0.5)):
        k = index_from(u[2 * j], space.dimension)
        entry = _to_coordinate(space, k, _reset(space, k, x[k], u[2 * j + 1]))
        x = set_row(x, k, jnp.where(wanted & also, entry, x[k]))
    return x


# --- line searches ------------------------------------------------------------------------------


def _line_step(space, state, k, u):
    """The next probe of a line search, relative to the best point; whether it is the last."""
    line = state.line
    low, high = bounds_of(space)
    below, above = state.x[k] - low[k], high[k] - state.x[k]
    least = _least_step(space)[k]
    step = jnp.maximum(jnp.where(line.active, line.step, state.scales[k]), least)
    none_known = ~jnp.any(line.known)
    up = jnp.where(none_known, state.signs[k] > 0, line.known[0])
    room = jnp.where(up, above, below)
    blocked = room < jnp.minimum(step, least)
    # At a bound: the other side first; with that known, between it and here.
    up = jnp.where(none_known & blocked, ~up, up)
    room = jnp.where(up, above, below)
    probe = jnp.where(up, 1, -1) * jnp.minimum(step, room)
    both = jnp.all(line.known)
    between = jnp.where(both, _vertex(line, u), 0.5 * jnp.sum(line.offsets))
    last = both | (blocked & ~none_known)
    return jnp.where(last, between, probe), last


def _vertex(line: Line, u):
    """The vertex of the parabola through both neighbours and the best point, which lies lower."""
    (a, b), (va, vb) = line.offsets, line.values
    finite = jnp.isfinite(va) & jnp.isfinite(vb)
    top = vb * a * a - va * b * b
    bottom = vb * a - va * b
    t = 0.5 * top / jnp.where(bottom == 0, 1.0, bottom)
    t = jnp.where(finite & (bottom != 0), t, 0.0)
    t = jnp.clip(t, 0.9 * a, 0.9 * b)
    tiny = 1e-3 * jnp.minimum(-a, b)
    return jnp.where(jnp.abs(t) < tiny, jnp.where(u < 0.5, -tiny, tiny), t)


def _continue_line(space, k, state, better, value):
    """The line after a probe, and whether the visit is over."""
    line, (_, move, last) = state.line, state.proposal
    up = move > 0
    side = jnp.stack([~up, up])
    # A worse probe becomes the neighbour on its side. After a better one the old best is the neighbour
    # behind, and what lies ahead is open again. Values are kept relative to the best.
    missed = Line(
        active=jnp.bool_(True),
        offsets=jnp.where(side, move, line.offsets),
        values=jnp.where(side, value - state.value, line.values),
        known=line.known | side,
        step=jnp.abs(move),
        moved=line.moved,
        leapt=line.leapt,
    )
    hit = Line(
        active=jnp.bool_(True),
        offsets=jnp.where(side, 0.0, -move),
        values=jnp.where(side, 0.0, state.value - value),
        known=~side,
        step=2 * jnp.abs(move),
        moved=line.moved + move,
        leapt=line.leapt,
    )
    after = where(better, hit, missed)
    ends = last | (move == 0)
    if np.any(space.kinds == ORDERED):
        # Between neighbours one step away lies nothing.
        narrow = jnp.asarray(space.kinds == ORDERED)[k] & jnp.all(jnp.abs(after.offsets) <= 1)
        ends = ends | (narrow & jnp.all(after.known))
    return after, ends


def _learn(space, state, k, ends, line: Line, better, move):
    """Scales, signs and jump lengths, from a line search that `ends`."""
    span, scale = span_of(space)[k], state.scales[k]
    way = jnp.abs(line.moved)
    learnt = jnp.where(line.leapt, 0.125 * line.step, jnp.clip(way, SHRINK * scale, GROW * scale))
    learnt = jnp.clip(learnt, _least_step(space)[k], 0.5 * span)
    keep = ends & line.leapt & (way > 0)
    slot = lax.rem(state.num_jumps, np.uint32(MEMORY))
    return state._replace(
        scales=set_row(state.scales, k, jnp.where(ends, learnt, scale)),
        signs=set_row(state.signs, k, jnp.where(better, jnp.sign(move), state.signs[k])),
        jumps=set_row(state.jumps, slot, jnp.where(keep, way / span, state.jumps[slot])),
        num_jumps=state.num_jumps + keep,
    )


def _no_line() -> Line:
    zero, no = jnp.zeros((), float_dtype()), jnp.bool_(False)
    pair = jnp.zeros(2, float_dtype())
    return Line(no, pair, pair, jnp.zeros(2, bool), zero, zero, no)


# --- the space as arrays ------------------------------------------------------------------------


def _least_step(space: Space):
    """1 for integers, else what still moves a number as large as the range."""
    resolution = 8 * float(jnp.finfo(float_dtype()).eps)
    least = np.where(space.kinds == CONTINUOUS, resolution * (space.high - space.low), 1.0)
    return jnp.asarray(least, float_dtype())


def _to_coordinate(space, k, value):
    low, high = bounds_of(space)
    value = jnp.clip(value, low[k], high[k])
    if space.is_continuous:
        return value
    return jnp.where(jnp.asarray(space.kinds != CONTINUOUS)[k], jnp.round(value), value)
