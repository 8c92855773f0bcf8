"""Constraints: an algorithm sees one number for a value and its violations.

    rules        f(x) if x is feasible, else its violation, which exceeds all of these
    Lagrangian   f(x) + sum_j psi(g_j(x)),    psi(g) = l g + r g^2 / 2, or -l^2 / (2 r) where l + r g < 0

The rules (Deb 2000) suit every algorithm. The augmented Lagrangian lets smooth searches cross the boundary:
multipliers l and penalties r are updated between rounds (Powell, Hestenes, Rockafellar).
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from zojax._numerics import float_dtype
from zojax.search.algorithms._algorithm import Algorithm
from zojax.search.algorithms._toolkit import promoting_all, select
from zojax.search.spaces import Space

GROWTH, DROP = 10.0, 0.5  # a penalty grows if a violation does not fall to this share
ROUND = 5  # evaluations of a round per coordinate, and 3 times as many
STEEPEST = 1e6  # largest growth of a penalty


class Found(NamedTuple):
    """The best point: of the least value if any is feasible, else of the least violation."""

    x: jax.Array
    value: jax.Array  # inf without a feasible point
    violation: jax.Array  # the sum, in units of the first violations
    largest: jax.Array


class Scales(NamedTuple):
    """References: the first value, the first feasible value, and each constraint's first violation."""

    any_value: jax.Array  # inf at first
    value: jax.Array  # inf at first
    constraints: jax.Array  # (m,), 0 at first


class Lagrangian(NamedTuple):
    """The multipliers and penalties (m,) of this round, and its best evaluation."""

    multipliers: jax.Array
    penalties: jax.Array  # 0 in the first round, which follows the rules
    margins: jax.Array  # added to constraints, so that the end is feasible
    largest: jax.Array  # margin, halved in each round
    residuals: jax.Array  # after the last update of the multipliers
    first: jax.Array  # penalties of the second round
    told: jax.Array  # evaluations in this round
    x: jax.Array
    row: jax.Array  # (1 + m,), value and constraints at x
    value: jax.Array  # told for x
    sums: jax.Array  # (3 + m,) over the first round: 1, f, f^2, g^2


class ConstrainedState(NamedTuple):
    """The algorithm's state, and what its values are made from."""

    inner: Any
    found: Found
    scales: Scales
    lagrangian: Lagrangian


def by_rules(algorithm: Algorithm, space: Space) -> bool:
    """Whether an algorithm follows the rules only."""
    return algorithm.forget is None or not space.is_continuous


@functools.lru_cache(maxsize=64)
def constrained(algorithm: Algorithm, num: int) -> Algorithm:
    """The algorithm on rows of one value and `num` constraints, which are feasible up to 0."""

    def init(key, space: Space, budget: int) -> ConstrainedState:
        inner = algorithm.init(key, space, budget)
        x, inf = jnp.zeros(space.dimension, float_dtype()), jnp.asarray(np.inf, float_dtype())
        zeros = jnp.zeros(num, float_dtype())
        return ConstrainedState(
            inner=inner,
            found=Found(x, inf, inf, inf),
            scales=Scales(inf, inf, zeros),
            lagrangian=Lagrangian(
                *(zeros, zeros, zeros, inf, zeros, zeros),
                told=jnp.int32(0),
                x=x,
                row=jnp.full(1 + num, np.inf, float_dtype()),
                value=inf,
                sums=jnp.zeros(3 + num, float_dtype()),
            ),
        )

    def ask(space: Space, state: ConstrainedState):
        x, inner = algorithm.ask(space, state.inner)
        return x, state._replace(inner=inner)

    def tell(space: Space, state: ConstrainedState, x, rows) -> ConstrainedState:
        told = []
        for i in range(algorithm.batch_size):
            state, value = _entered(state, x[i], rows[i])
            told.append(value)
        state = state._replace(inner=algorithm.tell(space, state.inner, x, jnp.stack(told)))
        if by_rules(algorithm, space):
            return state
        over = state.lagrangian.told >= ROUND * (space.dimension + 3)
        begin = functools.partial(_next_round, algorithm.inject, algorithm.forget, space)
        return lax.cond(over, begin, lambda s: s, state)

    def inject(space: Space, state: ConstrainedState, x, row) -> ConstrainedState:
        state, value = _entered(state, x, row)
        return state._replace(inner=algorithm.inject(space, state.inner, x, value))

    def best(state: ConstrainedState):
        return state.found.x, state.found.value

    on_rows = algorithm._replace(init=init, ask=ask, tell=tell, inject=inject, best=best)
    return promoting_all(on_rows._replace(objectives=1 + num))


def _entered(state: ConstrainedState, x, row) -> tuple[ConstrainedState, jax.Array]:
    """The state after an evaluation, and the value for the algorithm."""
    value, g = row[0], row[1:]
    found, scales, now = state.found, state.scales, state.lagrangian
    fits, usable = jnp.all(g <= 0) & jnp.isfinite(value), jnp.all(jnp.isfinite(row))
    scales = Scales(
        jnp.where(jnp.isinf(scales.any_value) & usable, value, scales.any_value),
        jnp.where(jnp.isinf(scales.value) & fits, value, scales.value),
        jnp.where((scales.constraints == 0) & (g > 0) & jnp.isfinite(g), g, scales.constraints),
    )
    units = jnp.where(scales.constraints > 0, scales.constraints, 1)
    violation = jnp.sum(jnp.maximum(g, 0) / units)
    closer = jnp.isinf(found.value) & (violation < found.violation)
    better = jnp.where(fits, value < found.value, closer)
    largest = jnp.maximum(jnp.max(g), 0)
    here = Found(x, jnp.where(fits, value, np.inf), violation, largest)
    found = select(better, here, found)
    ruled = _by_rules(scales, value, violation, fits)
    by_lagrangian = jnp.where(usable, value - scales.any_value + _penalty(now, g), np.inf)
    told = jnp.where(now.penalties[0] > 0, by_lagrangian, ruled)
    terms = jnp.concatenate([jnp.ones(1, row.dtype), row[:1], row[:1] ** 2, g**2])
    lower = told < now.value
    now = now._replace(
        told=now.told + 1,
        x=jnp.where(lower, x, now.x),
        row=jnp.where(lower, row, now.row),
        value=jnp.where(lower, told, now.value),
        sums=now.sums + jnp.where(usable, terms, 0),
    )
    return state._replace(found=found, scales=scales, lagrangian=now), told


def _by_rules(scales: Scales, value, violation, fits) -> jax.Array:
    """Below 0 for feasible points, exact where they are better than the first one; else the violation."""
    gain = value - jnp.where(jnp.isfinite(scales.value), scales.value, 0)
    feasible = jnp.where(gain <= 0, gain - 1, -1 / (1 + jnp.maximum(gain, 0)))
    infeasible = jnp.where((violation > 0) & jnp.isfinite(violation), violation, np.inf)
    return jnp.where(fits, feasible, infeasible)


def _penalty(now: Lagrangian, g) -> jax.Array:
    r = jnp.where(now.penalties > 0, now.penalties, 1)
    h = jnp.maximum(g + now.margins, -now.multipliers / r)
    return jnp.sum(now.multipliers * h + r * h**2 / 2)


def _next_round(
    inject: Any, forget: Any, space: Space, state: ConstrainedState
) -> ConstrainedState:
    """New multipliers from the best point of the round, where the algorithm then starts again."""
    now = state.lagrangian
    n, total, squares = now.sums[0], now.sums[1], now.sums[2]
    spread = jnp.sqrt(jnp.maximum(squares / n - (total / n) ** 2, 1e-30))
    first = 10 * spread / jnp.maximum(now.sums[3:] / n, 1e-30)
    begun, g = now.penalties[0] > 0, now.row[1:]
    r, h = jnp.where(begun, now.penalties, 1), g + now.margins
    residuals = jnp.abs(jnp.maximum(h, -now.multipliers / r))
    # Multipliers of an unfinished round mislead: first the penalty must reduce the violation.
    falls = residuals <= DROP * now.residuals
    grown = jnp.minimum(GROWTH * r, STEEPEST * now.first)
    updated = jnp.maximum(now.multipliers + r * h, 0)
    new = now._replace(
        multipliers=jnp.where(begun, updated, 0.0),
        penalties=jnp.where(begun, jnp.where(falls, r, grown), first),
        margins=jnp.where(begun, jnp.minimum(jnp.maximum(g, 0), now.largest / 2), 0.0),
        largest=jnp.where(begun, now.largest / 2, jnp.maximum(jnp.max(jnp.abs(g)), 0)),
        residuals=jnp.where(begun, residuals, np.inf),
        first=jnp.where(begun, now.first, first),
        told=jnp.int32(0),
    )
    value = now.row[0] - state.scales.any_value + _penalty(new, now.row[1:])
    new = new._replace(value=value)
    inner = inject(space, forget(state.inner), now.x, value)
    after = state._replace(inner=inner, lagrangian=new)
    # Without any value so far, the round goes on by the rules.
    ruled = state._replace(lagrangian=now._replace(told=jnp.int32(0)))
    return select(jnp.isfinite(value), after, ruled)
