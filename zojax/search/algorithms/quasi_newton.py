"""Quasi-Newton search: gradients from forward differences, curvature from L-BFGS, a Wolfe line search."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from zojax._checks import require_count
from zojax._numerics import float_dtype
from zojax.search._random import Random, advance, make_random
from zojax.search.algorithms._algorithm import Algorithm
from zojax.search.algorithms._toolkit import (
    bounds_of,
    keep_best,
    recommended,
    require_continuous,
    reused,
    select,
    span_of,
    starts_between,
)
from zojax.search.algorithms._wolfe import (
    Bracket,
    End,
    evaluated,
    is_steep,
    narrowed,
    no_bracket,
    row,
    steps_of,
)
from zojax.search.spaces import CONTINUOUS, Space
from zojax.search.spaces._precision import namespace_of

TRIES = 10  # batches of a line search
FAILURES = 3  # line searches without progress, before another start
SINGLE = float(np.finfo(np.float32).eps)
WIDEST = SINGLE**0.4  # difference


class Pairs(NamedTuple):
    """The memory of L-BFGS, newest first: steps s, gradient changes y, and 1 / (s'y), or 0 if empty."""

    steps: jax.Array  # (memory, d)
    changes: jax.Array  # (memory, d)
    inverse: jax.Array  # (memory,)


class QuasiNewtonState(NamedTuple):
    """The best point, the iterate with its gradient, the memory of L-BFGS, and the line search."""

    random: Random
    x: jax.Array  # the best point, and its value
    value: jax.Array
    base: jax.Array  # the last iterate
    base_value: jax.Array  # inf before the first one
    base_gradient: jax.Array
    point: jax.Array  # the point of the differences
    point_value: jax.Array  # inf before a start has a value
    gradient: jax.Array
    done: jax.Array  # finished differences; after the last, the line search goes on
    width: jax.Array  # of a difference, in units of the range
    is_single: jax.Array  # whether float32 holds all values so far
    noise: jax.Array  # relative, of values, as learnt from failures
    pairs: Pairs
    direction: jax.Array
    line: Bracket
    step: jax.Array
    tries: jax.Array
    failures: jax.Array


@reused
def quasi_newton(memory: int = 16, *, batch_size: int = 1) -> Algorithm:
    """Repeats: forward differences of the continuous coordinates, an L-BFGS direction, a line search.

        g_k = (f(x + h e_k) - f(x)) / h,    p = -H g,    x <- x + t p

    H comes from the last `memory` pairs, in units of the ranges. The step t fulfils the strong Wolfe
    conditions. An iteration takes d + 1 or a few more evaluations. Use it for smooth functions whose
    coordinates interact. It starts at the first random point that does not fail. After three line searches
    without progress it starts again: at a random point, or between the best point and a random one. A
    better injected point becomes the next iterate.

    Args:
      memory: how many pairs of steps and gradient changes to keep.
      batch_size: points of one ask, for parallel evaluations: differences, or steps of the line search. The
        first step is evaluated together with differences there.

    Raises:
      ValueError: memory or batch_size below 1; a space without a continuous coordinate.

    References:
      Nocedal, `Updating quasi-Newton matrices with limited storage
      <https://doi.org/10.1090/S0025-5718-1980-0572855-7>`_, 1980.

    >>> from zojax import search
    >>> def rosenbrock(x):
    ...     return 100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2
    >>> found = search.minimize(rosenbrock, search.uniform(-2, 2, (2,)), search.quasi_newton(),
    ...                         budget=300, key=0)
    >>> bool(found.best_value < 1e-3)
    True
    """
    memory, batch_size = require_count("memory", memory), require_count("batch_size", batch_size)

    def init(key, space: Space, budget: int) -> QuasiNewtonState:
        del budget
        d, dtype = space.dimension, float_dtype()
        require_continuous("quasi_newton", space)
        x = space.sample(key, 1)[0].astype(dtype)
        zeros, inf = jnp.zeros(d, dtype), jnp.asarray(np.inf, dtype)
        rows = jnp.zeros((memory, d), dtype)
        return QuasiNewtonState(
            random=make_random(key),
            x=x,
            value=inf,
            base=x,
            base_value=inf,
            base_gradient=zeros,
            point=x,
            point_value=inf,
            gradient=zeros,
            done=jnp.uint32(0),
            width=jnp.asarray(WIDEST, dtype),
            is_single=jnp.bool_(True),
            noise=jnp.zeros((), dtype),
            pairs=Pairs(rows, rows, jnp.zeros(memory, dtype)),
            direction=zeros,
            line=no_bracket(inf, jnp.zeros((), dtype)),
            step=jnp.ones((), dtype),
            tries=jnp.int32(0),
            failures=jnp.int32(0),
        )

    def forget(state: QuasiNewtonState) -> QuasiNewtonState:
        return state._replace(value=jnp.full_like(state.value, np.inf))

    ask = partial(_ask, batch_size)
    return Algorithm(init, ask, _tell, recommended, _inject, batch_size=batch_size, forget=forget)


def _ask(n: int, space: Space, state: QuasiNewtonState):
    def search(state):
        low, high = bounds_of(space)
        steps = steps_of(state.line, state.step, n)[:, None]
        points = jnp.clip(state.base + steps * (span_of(space) * state.direction), low, high)
        if n == 1:
            return points
        trial = _moved(state, points[1], state.base_value)
        first = jnp.concatenate([points[1:2], _probes(space, n - 1, trial)])
        return jnp.where(state.tries == 0, first, points)

    phases: list[Callable] = [partial(_starts, space, n), partial(_probes, space, n), search]
    x = lax.switch(_phase(space, state), phases, state)
    return space.clip(x), state._replace(random=advance(state.random))


def _phase(space: Space, state: QuasiNewtonState) -> jax.Array:
    """0 before a start has a value, 1 during differences, 2 in a line search."""
    differs = state.done < _count(space, state)
    return jnp.where(jnp.isinf(state.point_value), 0, jnp.where(differs, 1, 2))


def _starts(space: Space, n: int, state: QuasiNewtonState) -> jax.Array:
    return starts_between(space, state.random, n, state.x, state.value)


def _probes(space: Space, n: int, state: QuasiNewtonState) -> jax.Array:
    """Points (n, d) of the next differences. After the last difference, places are for new starts."""
    moved, needed = _moved_by(space, state, n)
    h = state.width * span_of(space)
    h = jnp.where(state.point + h > bounds_of(space)[1], -h, h)  # towards the inside
    probes = state.point + jnp.where(moved, h, 0.0)
    return probes if n == 1 else jnp.where(needed[:, None], probes, _starts(space, n, state))


def _moved_by(space: Space, state: QuasiNewtonState, n: int) -> tuple[jax.Array, jax.Array]:
    """(which coordinate each of the next n differences moves, (n, d); whether there are so many)."""
    number = state.done + jnp.arange(n, dtype=jnp.uint32)
    is_moved = _is_moved(space, state)
    xp = namespace_of(is_moved)
    numbers = xp.where(is_moved, xp.cumsum(is_moved) - 1, -1).astype(np.uint32)
    return numbers == number[:, None], number < _count(space, state)


def _tell(space: Space, state: QuasiNewtonState, x, values) -> QuasiNewtonState:
    single = values.astype(np.float32).astype(values.dtype) == values
    state = state._replace(is_single=state.is_single & jnp.all(single))
    for i in range(len(values)):
        state = keep_best(state, x[i], values[i])
    search = _search if len(values) == 1 else partial(_search_in_batches, space)
    phases: list[Callable] = [_begin, partial(_difference, space), search]
    state, event = lax.switch(_phase(space, state), phases, state, x, values)
    return lax.switch(event, [lambda s: s, partial(_iterate, space), _fail], state)


GOES_ON, ITERATES, FAILS = (np.int32(i) for i in range(3))  # what follows an evaluation


def _begin(state: QuasiNewtonState, x, values):
    i = jnp.argmin(values)
    begun = _moved(state, row(x, i), row(values, i))._replace(width=_widest(state))
    return select(jnp.isfinite(begun.point_value), begun, state), GOES_ON


def _difference(space: Space, state: QuasiNewtonState, x, values):
    moved, needed = _moved_by(space, state, len(values))
    h = x - state.point  # as rounded
    slopes = (values - state.point_value)[:, None] / jnp.where(h == 0, 1.0, h) * span_of(space)
    # After a failed probe, the coordinate does not move.
    slopes = jnp.where(jnp.isfinite(slopes), slopes, 0.0)
    moved = moved & needed[:, None]
    slope = jnp.sum(jnp.where(moved, slopes, 0.0), axis=0)
    gradient = jnp.where(jnp.any(moved, axis=0), slope, state.gradient)
    state = state._replace(gradient=gradient, done=state.done + np.uint32(len(values)))
    return lax.cond(
        state.done >= _count(space, state),
        partial(_differentiated, space),
        lambda s: (s, GOES_ON),
        state,
    )


def _differentiated(space: Space, state: QuasiNewtonState):
    """With a complete gradient: the next iterate, unless the line search needs another step."""
    low, high = bounds_of(space)
    if space.is_conditional:  # without slopes of coordinates that were active at an earlier point
        state = state._replace(gradient=jnp.where(_is_moved(space, state), state.gradient, 0.0))
    inside = (state.point > low) & (state.point < high)
    slope = jnp.where(inside, state.gradient, 0.0) @ state.direction
    goes_on = is_steep(state.line, slope) & (state.line.start.slope < 0) & (state.tries < TRIES)
    line, step = narrowed(state.line, End(state.step, state.point_value, slope))
    narrow = state._replace(line=line, step=step, tries=state.tries + 1)
    return select(goes_on, narrow, state), jnp.where(goes_on, GOES_ON, ITERATES)


def _search(state: QuasiNewtonState, x, values):
    """The values of steps: a low one is differentiated next."""
    steps = steps_of(state.line, state.step, len(values))
    line, step, i, found = evaluated(state.line, steps, values)
    low = _moved(state, row(x, i), row(values, i))._replace(line=line, step=row(steps, i))
    missed = state._replace(line=line, step=step, tries=state.tries + 1)
    # Steps that promise less than the values resolve are in vain.
    promise, least = -step * line.start.slope, 4 * _eps(state) * jnp.abs(line.start.value)
    gives_up = ~found & ((missed.tries >= TRIES) | (promise < least))
    # The best step, which is differentiated, is better than none.
    event = jnp.where(gives_up, jnp.where(line.low.step > 0, ITERATES, FAILS), GOES_ON)
    return select(found, low, missed), event


def _search_in_batches(space: Space, state: QuasiNewtonState, x, values):
    """The first step is evaluated together with differences there; later, several steps."""

    def first(state, x, values):
        searched, event = _search(state, x[:1], values[:1])
        found = searched.done == 0
        differs, after = _difference(space, searched, x[1:], values[1:])
        return select(found, differs, searched), jnp.where(found, after, event)

    return lax.cond(state.tries == 0, first, _search, state, x, values)


def _inject(space, state: QuasiNewtonState, x, value) -> QuasiNewtonState:
    """A better point becomes the next iterate."""
    del space
    line = no_bracket(value, jnp.zeros_like(value))
    jumped = _moved(keep_best(state, x, value), x, value)
    jumped = jumped._replace(line=line, failures=jnp.int32(0))
    return select(value < state.value, jumped, state)


def _moved(state: QuasiNewtonState, x, value) -> QuasiNewtonState:
    """The state before the differences at x."""
    return state._replace(point=x, point_value=value, done=jnp.uint32(0))


def _fail(state: QuasiNewtonState) -> QuasiNewtonState:
    """Again without curvature: first with narrower differences, then with wider ones, then elsewhere."""
    failures = state.failures + 1
    over = failures >= FAILURES
    width = jnp.clip(state.width * jnp.where(failures == 1, 0.1, 300), 8 * _eps(state), WIDEST)
    noise = jnp.where(failures == 2, jnp.minimum(1e3 * _eps(state), SINGLE), state.noise)
    inf = jnp.full_like(state.base_value, np.inf)
    state = _moved(state, state.base, jnp.where(over, inf, state.base_value))
    return state._replace(
        base_value=state.point_value,
        pairs=state.pairs._replace(inverse=jnp.zeros_like(state.pairs.inverse)),
        width=width.astype(state.width.dtype),
        noise=noise.astype(state.noise.dtype),
        line=no_bracket(inf, jnp.zeros_like(inf)),
        failures=jnp.where(over, 0, failures),
    )


def _iterate(space: Space, state: QuasiNewtonState) -> QuasiNewtonState:
    """The next iterate: remembers the pair and starts the line search."""
    low, high = bounds_of(space)
    s = jnp.where(space.kinds == CONTINUOUS, (state.point - state.base) / span_of(space), 0.0)
    y = state.gradient - state.base_gradient
    sy = s @ y
    curved = (sy > 1e-8 * jnp.sqrt((s @ s) * (y @ y))) & jnp.isfinite(state.base_value)
    inverse = jnp.where(curved, 1 / jnp.where(curved, sy, 1.0), 0.0)
    longer = jax.tree.map(
        lambda old, new: jnp.concatenate([new[None], old[:-1]]), state.pairs, Pairs(s, y, inverse)
    )
    pairs = select(curved, longer, state.pairs)
    # Coordinates at a bound do not move beyond it.
    g = state.gradient
    stopped = ((state.point <= low) & (g > 0)) | ((state.point >= high) & (g < 0))
    g = jnp.where(stopped, 0.0, g)
    p = jnp.where(stopped, 0.0, -_inverse_hessian(pairs, g))
    p = jnp.where(p @ g < 0, p, -g)
    norm = jnp.sqrt(p @ p)
    norm = jnp.where(norm > 0, norm, 1.0)
    known = pairs.inverse[0] > 0
    # Without curvature, a tenth of the range. With it, the full step, at most half the diagonal.
    longest = jnp.where(known, 0.5 * np.sqrt(len(p)), 0.1)
    p = p * jnp.where(known, jnp.minimum(1.0, longest / norm), longest / norm)
    searched = state.line.start.slope < 0
    gains = state.base_value - state.point_value > 4 * _eps(state) * jnp.abs(state.point_value)
    failures = jnp.where(searched, jnp.where(gains, 0, state.failures + 1), state.failures)
    state = state._replace(
        base=state.point,
        base_value=state.point_value,
        base_gradient=state.gradient,
        pairs=pairs,
        direction=p,
        line=no_bracket(state.point_value, p @ g),
        step=jnp.ones_like(state.step),
        tries=jnp.int32(0),
        failures=failures,
    )
    state = state._replace(width=_width(state))
    return select((p @ g < 0) & (failures < FAILURES), state, _fail(state))


def _inverse_hessian(pairs: Pairs, g):
    """H g by the two-loop recursion. Empty pairs change nothing."""

    def backward(q, pair):
        s, y, inverse = pair
        a = inverse * (s @ q)
        return q - a * y, a

    q, a = lax.scan(backward, g, pairs)
    newest = pairs.changes[0]
    yy = newest @ newest
    scale = 1 / jnp.where(pairs.inverse[0] > 0, pairs.inverse[0] * yy, 1.0)
    q = q * scale

    def forward(q, pair):
        (s, y, inverse), a = pair
        return q + s * (a - inverse * (y @ q)), None

    return lax.scan(forward, q, (pairs, a), reverse=True)[0]


def _width(state: QuasiNewtonState) -> jax.Array:
    """The width that balances rounding and curvature, 2 sqrt(10 eps |f| / f''), in units of the range.

    f'' is the largest curvature along the last step. After failures, the width remains.
    """
    y, inverse = state.pairs.changes[0], state.pairs.inverse[0]
    eps, curvature = _eps(state), jnp.maximum(inverse * (y @ y), 1e-30)
    balanced = 2 * jnp.sqrt(10 * eps * jnp.abs(state.point_value) / curvature)
    width = jnp.where(inverse > 0, jnp.clip(balanced, 8 * eps, _widest(state)), state.width)
    return jnp.where(state.failures > 0, state.width, width)


def _eps(state: QuasiNewtonState) -> jax.Array:
    """The resolution of values: that of float32, if it holds all of them, or less after failures."""
    eps = jnp.where(state.is_single, SINGLE, jnp.finfo(state.value.dtype).eps)
    return jnp.maximum(eps, state.noise).astype(state.value.dtype)


def _widest(state: QuasiNewtonState) -> jax.Array:
    return _eps(state) ** 0.4


def _is_moved(space: Space, state: QuasiNewtonState) -> Any:
    """Which coordinates differences move: the continuous and active ones."""
    return (space.kinds == CONTINUOUS) & space.active(state.point)


def _count(space: Space, state: QuasiNewtonState) -> Any:
    """The number of differences."""
    is_moved = _is_moved(space, state)
    return namespace_of(is_moved).sum(is_moved).astype(np.uint32)
