"""Quasi-Newton search: gradients from forward differences, curvature from L-BFGS."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from zojax._checks import require_count
from zojax._numerics import float_dtype
from zojax.search._random import Random, draw, make_random
from zojax.search.algorithms._algorithm import Algorithm
from zojax.search.algorithms._arrays import set_row
from zojax.search.algorithms._toolkit import (
    bounds_of,
    keep_best,
    recommended,
    reused,
    select,
    sequential,
    span_of,
)
from zojax.search.spaces import CONTINUOUS, Space

TRIES = 6  # evaluations of a line search
EXPANSIONS = 3  # of its step


class Pairs(NamedTuple):
    """The memory of L-BFGS, newest first: steps s, gradient changes y, and 1 / (s'y), or 0 if empty."""

    steps: jax.Array  # (memory, d)
    changes: jax.Array  # (memory, d)
    inverse: jax.Array  # (memory,)


class QuasiNewtonState(NamedTuple):
    """The best point, the base of the current gradient, the memory of L-BFGS, and the line search."""

    random: Random  # for another start after a failed one
    x: jax.Array  # the best point, and its value
    value: jax.Array
    base: jax.Array  # the point of the gradient
    base_value: jax.Array
    gradient: jax.Array
    old_base: jax.Array
    old_gradient: jax.Array
    pairs: Pairs
    done: jax.Array  # finished differences; after the last, the line search begins
    width: jax.Array  # of a difference, in units of the range
    direction: jax.Array
    slope: jax.Array
    step: jax.Array
    tries: jax.Array
    iterations: jax.Array


@reused
def quasi_newton(memory: int = 16) -> Algorithm:
    """Repeats: forward differences of the continuous coordinates, an L-BFGS direction, a line search.

        g_k = (f(x + h e_k) - f(x)) / h,    p = -H g,    x <- x + t p

    H comes from the last `memory` pairs, in units of the ranges. An iteration takes d + 1 or a few more
    evaluations. Use it for smooth functions whose coordinates interact. It starts at the first random point
    that does not fail, and stays in its basin. Injected points become the next base.

    Args:
      memory: how many pairs of steps and gradient changes to keep.

    Raises:
      ValueError: memory below 1; a space without a continuous coordinate.

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
    memory = require_count("memory", memory)

    def init(key, space: Space, budget: int) -> QuasiNewtonState:
        del budget
        d, dtype = space.dimension, float_dtype()
        if not np.any(space.kinds == CONTINUOUS):
            raise ValueError(f"quasi_newton needs a continuous coordinate, got the space\n{space}")
        x = space.sample(key, 1)[0].astype(dtype)
        zeros, inf = jnp.zeros(d, dtype), jnp.asarray(jnp.inf)
        pairs = Pairs(
            jnp.zeros((memory, d), dtype), jnp.zeros((memory, d), dtype), jnp.zeros(memory, dtype)
        )
        return QuasiNewtonState(
            random=make_random(key),
            x=x,
            value=inf,
            base=x,
            base_value=inf,
            gradient=zeros,
            old_base=x,
            old_gradient=zeros,
            pairs=pairs,
            done=jnp.uint32(0),
            width=jnp.asarray(_widest(), dtype),
            direction=zeros,
            slope=jnp.zeros((), dtype),
            step=jnp.ones((), dtype),
            tries=jnp.int32(0),
            iterations=jnp.int32(0),
        )

    return Algorithm(init, _ask, sequential(_tell), recommended, _inject)


def _ask(space: Space, state: QuasiNewtonState):
    coordinates = _coordinates(space)
    low, high = bounds_of(space)
    k = coordinates[jnp.minimum(state.done, len(coordinates) - 1)]
    shifted = state.base[k] + _difference(space, state, k)
    probe = set_row(state.base, k, shifted)
    searched = jnp.clip(state.base + state.step * span_of(space) * state.direction, low, high)
    x = jnp.where(state.done < len(coordinates), probe, searched)
    # The first evaluations are random starts, until one has a value.
    x = jnp.where(jnp.isinf(state.base_value), state.base, x)
    return space.clip(x)[None], state


def _tell(space: Space, state: QuasiNewtonState, x, value) -> QuasiNewtonState:
    started = jnp.isfinite(state.base_value)
    state = keep_best(state, x, value)
    differences = len(_coordinates(space))

    def begin(state):
        u, random = draw(state.random, space.dimension)
        elsewhere = state._replace(random=random, base=space.from_unit(u))
        return select(jnp.isfinite(value), _new_iteration(state), elsewhere)

    def difference(state):
        k = _coordinates(space)[state.done]
        h = x[k] - state.base[k]  # as rounded
        slope = (value - state.base_value) / jnp.where(h == 0, 1.0, h) * span_of(space)[k]
        # After a failed probe, the coordinate does not move.
        slope = jnp.where(jnp.isfinite(slope), slope, 0.0)
        state = state._replace(gradient=set_row(state.gradient, k, slope), done=state.done + 1)
        complete = state.done == differences
        return lax.cond(complete, lambda s: _new_direction(space, s), lambda s: s, state)

    def search(state):
        return _search(state, value)

    phase = jnp.where(started, 1 + (state.done >= differences), 0)
    return lax.switch(phase, [begin, difference, search], state)


def _inject(space, state: QuasiNewtonState, x, value) -> QuasiNewtonState:
    """A better point becomes the base of the next iteration, or of this one before any difference."""
    del space
    better = value < state.value
    state = keep_best(state, x, value)
    first = better & (state.done == 0)
    return state._replace(
        base=jnp.where(first, x, state.base),
        base_value=jnp.where(first, value, state.base_value),
    )


def _new_iteration(state: QuasiNewtonState) -> QuasiNewtonState:
    return state._replace(
        base=state.x,
        base_value=state.value,
        done=jnp.uint32(0),
        tries=jnp.int32(0),
        iterations=state.iterations + 1,
    )


def _new_direction(space, state: QuasiNewtonState) -> QuasiNewtonState:
    """With a complete gradient: remembers the pair and starts the line search."""
    low, high = bounds_of(space)
    s = (state.base - state.old_base) / span_of(space)
    y = state.gradient - state.old_gradient
    sy = s @ y
    curved = sy > 1e-8 * jnp.sqrt((s @ s) * (y @ y))
    curved = curved & (state.iterations > 1)
    inverse = jnp.where(curved, 1 / jnp.where(curved, sy, 1.0), 0.0)
    longer = jax.tree.map(
        lambda old, new: jnp.concatenate([new[None], old[:-1]]), state.pairs, Pairs(s, y, inverse)
    )
    pairs = select(curved, longer, state.pairs)
    # Coordinates at a bound do not move beyond it.
    g = state.gradient
    stopped = ((state.base <= low) & (g > 0)) | ((state.base >= high) & (g < 0))
    g = jnp.where(stopped, 0.0, g)
    p = jnp.where(stopped, 0.0, -_inverse_hessian(pairs, g))
    p = jnp.where(p @ g < 0, p, -g)
    norm = jnp.sqrt(p @ p)
    norm = jnp.where(norm > 0, norm, 1.0)
    known = pairs.inverse[0] > 0
    # Without curvature, a tenth of the range. With it, the full step, at most half the diagonal.
    longest = jnp.where(known, 0.5 * np.sqrt(len(p)), 0.1)
    p = p * jnp.where(known, jnp.minimum(1.0, longest / norm), longest / norm)
    return state._replace(
        old_base=state.base,
        old_gradient=state.gradient,
        pairs=pairs,
        direction=p,
        slope=p @ g,
        step=jnp.ones_like(state.step),
        tries=jnp.int32(0),
    )


def _search(state: QuasiNewtonState, value) -> QuasiNewtonState:
    """One evaluation of the line search, which then expands, ends, backs off, or gives up."""
    better = value < state.base_value
    t = state.step
    rise = value - state.base_value - state.slope * t
    vertex = -state.slope * t * t / (2 * jnp.where(rise > 0, rise, 1.0))
    shorter = jnp.where(jnp.isfinite(value) & (rise > 0), vertex, 0.0)
    shorter = jnp.clip(shorter, 0.1 * t, 0.5 * t)
    # Steeper than predicted, and the best value so far: go further.
    expands = better & (value <= state.value) & (rise < 0.25 * jnp.abs(state.slope) * t)
    expands = expands & (state.tries < EXPANSIONS)
    ends = (better & ~expands) | (state.value < state.base_value) & ~better
    gives_up = ~better & ~ends & (state.tries + 1 >= TRIES)
    width = _width(state)
    state = state._replace(
        step=jnp.where(expands, 2 * t, shorter),
        tries=state.tries + 1,
        width=jnp.where(ends, width, jnp.where(gives_up, 0.3 * state.width, state.width)),
        pairs=state.pairs._replace(inverse=jnp.where(gives_up, 0.0, state.pairs.inverse)),
    )
    return select(ends | gives_up, _new_iteration(state), state)


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


def _difference(space, state: QuasiNewtonState, k):
    """The signed width of the difference of coordinate k, towards the inside of the space."""
    h = state.width * span_of(space)[k]
    return jnp.where(state.base[k] + h > bounds_of(space)[1][k], -h, h)


def _width(state: QuasiNewtonState) -> jax.Array:
    """The width that balances rounding and curvature, 2 sqrt(10 eps |f| / f''), in units of the range.

    f'' is the largest curvature along the last step. Without one, the width is eps^0.4, the upper limit.
    """
    eps = float(jnp.finfo(float_dtype()).eps)
    y, inverse = state.pairs.changes[0], state.pairs.inverse[0]
    curvature = jnp.maximum(inverse * (y @ y), 1e-30)
    balanced = 2 * jnp.sqrt(10 * eps * jnp.abs(state.value) / curvature)
    return jnp.where(inverse > 0, jnp.clip(balanced, 8 * eps, _widest()), _widest())


def _widest() -> float:
    return float(jnp.finfo(float_dtype()).eps) ** 0.4


def _coordinates(space: Space):
    return jnp.asarray(np.flatnonzero(space.kinds == CONTINUOUS), jnp.uint32)
