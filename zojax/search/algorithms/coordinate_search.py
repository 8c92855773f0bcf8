"""Coordinate search with learnt scales: line searches, resets and jumps, by their gains."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from zojax._numerics import float_dtype
from zojax.search._random import Random, advance, draw, index_from, make_random, words
from zojax.search.algorithms._active import active_coordinate, next_active
from zojax.search.algorithms._algorithm import Algorithm
from zojax.search.algorithms._arrays import set_row
from zojax.search.algorithms._line_search import (
    Line,
    continue_line,
    least_step,
    line_step,
    no_line,
    to_coordinate,
)
from zojax.search.algorithms._toolkit import (
    bounds_of,
    keep_best,
    moved_if,
    recommended,
    reused,
    select,
    sequential,
    span_of,
)
from zojax.search.spaces import CONTINUOUS, ORDERED, UNORDERED, Space

LINE, RESET, JUMP, SCATTER = range(4)
MEMORY = 16  # remembered lengths of jumps
_NEEDS_ORDER = np.array([True, False, True, False])
SHRINK, GROW = 0.25, 4.0  # largest change of a scale in one visit
FLOOR = 0.1  # least share of each operator


class Proposal(NamedTuple):
    """The proposal of the last ask."""

    operator: jax.Array
    move: jax.Array
    last: jax.Array  # whether it ends the visit, better or not


class CoordinateSearchState(NamedTuple):
    random: Random
    x: jax.Array
    value: jax.Array
    order: jax.Array  # of the visits to coordinates
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
    """Visits the coordinates in turn, and learns step sizes and the best kind of step.

    A visit of coordinate k is one of

    - **line**: probe at the scale s_k, first on the side of the last success, then on the other side. Go on
      at twice the distance while it pays. Last, probe the vertex of the parabola through three points. The
      distance moved becomes the next scale, between s_k / 4 and 4 s_k.
    - **reset**: redraw the coordinate from its whole range, as `coordinate_reset` does.
    - **jump**: step by the length of an earlier successful reset or jump, on any coordinate. One step
      leaves a well among wells at regular distances.
    - **scatter**: reset two or three coordinates at once, which swaps values in discrete spaces.

    The recent improvement per evaluation, over about 4 d evaluations, sets the share of each kind. A
    coordinate without order is always reset. Integers step by at least 1. The design is new. Its parabola
    is Powell's, and its shares are adaptive operator selection.

    References:
      Powell, `An efficient method for finding the minimum of a function of several variables without
      calculating derivatives <https://doi.org/10.1093/comjnl/7.2.155>`_, 1964.

    >>> from zojax import search
    >>> import numpy as np
    >>> def rastrigin(x):
    ...     return float(np.sum(x**2 - 10 * np.cos(2 * np.pi * x) + 10))
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
        line=no_line(),
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
    step, last = line_step(space, state, k, u[1])
    xk = state.x[k]
    reset, jump = _reset(space, k, xk, u[2]), xk + _jump(space, state, k, u[3:6])
    target = jnp.stack([xk + step, reset, jump, reset])[operator]
    entry = to_coordinate(space, k, target)
    x = set_row(state.x, k, entry)
    x = _scatter(space, x, operator == SCATTER, u[6:])
    proposal = Proposal(operator, entry - xk, last)
    return space.clip(x)[None], state._replace(random=random, proposal=proposal)


def _tell(space: Space, state: CoordinateSearchState, x, value) -> CoordinateSearchState:
    operator, move, _ = state.proposal
    k = _visited(space, state)
    is_line = operator == LINE
    better = value < state.value
    # Moving to an equally good point is allowed, but no success.
    accepted = better | (~is_line & (value <= state.value))
    gain = jnp.where(better & jnp.isfinite(state.value), state.value - value, 0.0)
    after, ends = continue_line(space, k, state, better, value)
    # After a success elsewhere, a line search begins at the new place.
    lands = better & ((operator == RESET) | (operator == JUMP))
    lands = lands & (jnp.asarray(space.kinds)[k] != UNORDERED)
    span = span_of(space)[k]
    scale = state.scales[k]
    width = jnp.where(operator == JUMP, 0.1 * jnp.abs(move), 0.05 * span)
    landed = no_line()._replace(
        active=jnp.bool_(True), step=jnp.maximum(scale, width), moved=move, leapt=jnp.bool_(True)
    )
    ends = jnp.where(is_line, ends, ~lands)
    line = select(is_line, after, landed)
    state = _learn(space, state, k, ends & is_line, line, better, move)
    line = select(ends, no_line(), line)
    memory = 1 - 1 / (4 * space.dimension)
    used = jnp.arange(4) == operator
    return moved_if(accepted, state, x, value)._replace(
        visits=next_active(space, state.x, state.order, state.visits) + ends,
        line=line,
        gains=state.gains * memory + used * gain,
        costs=state.costs * memory + used,
    )


def _visited(space: Space, state: CoordinateSearchState) -> jax.Array:
    """The coordinate of this visit."""
    visits = next_active(space, state.x, state.order, state.visits)
    return state.order[lax.rem(visits, np.uint32(space.dimension))]


def _inject(space, state: CoordinateSearchState, x, value) -> CoordinateSearchState:
    del space
    line = select(value < state.value, no_line(), state.line)
    return keep_best(state, x, value)._replace(line=line)


def _choose_operator(space, state, k, u):
    """A random operator, by its gains, and at least its floor. A line takes about 3 evaluations."""
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
    # The first evaluation is the start.
    return jnp.where(jnp.isinf(state.value), RESET, operator)


def _reset(space, k, current, u):
    """A uniform value of coordinate k. Without order, it differs from the current value."""
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
    """Resets one or two more coordinates where `wanted`."""
    if space.dimension < 3:
        return x
    for j, also in ((0, True), (1, u[4] < 0.5)):
        k = active_coordinate(space, x, u[2 * j])
        entry = to_coordinate(space, k, _reset(space, k, x[k], u[2 * j + 1]))
        x = set_row(x, k, jnp.where(wanted & also, entry, x[k]))
    return x


def _learn(space, state, k, ends, line: Line, better, move):
    """The state with new scales, signs and jump lengths, after a line search that `ends`."""
    span, scale = span_of(space)[k], state.scales[k]
    way = jnp.abs(line.moved)
    learnt = jnp.where(line.leapt, 0.125 * line.step, jnp.clip(way, SHRINK * scale, GROW * scale))
    learnt = jnp.clip(learnt, least_step(space)[k], 0.5 * span)
    keep = ends & line.leapt & (way > 0)
    slot = lax.rem(state.num_jumps, np.uint32(MEMORY))
    return state._replace(
        scales=set_row(state.scales, k, jnp.where(ends, learnt, scale)),
        signs=set_row(state.signs, k, jnp.where(better, jnp.sign(move), state.signs[k])),
        jumps=set_row(state.jumps, slot, jnp.where(keep, way / span, state.jumps[slot])),
        num_jumps=state.num_jumps + keep,
    )
