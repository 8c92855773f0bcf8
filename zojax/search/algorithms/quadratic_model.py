"""Search with a quadratic model of the nearest points, in a trust region, for parallel evaluations."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from zojax._checks import require_count
from zojax._numerics import float_dtype
from zojax.noise import standard_normal
from zojax.search._random import Random, advance, make_random, words
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
from zojax.search.spaces import CONTINUOUS, Space

MOST = 128  # remembered points
FIRST, WIDEST = 0.1, 0.5  # radius of the region, in units of the range
ASIDE = 0.25  # distance of a direction from the trial, in radii
SLOPE, ERROR = 30.0, 1e-3  # prior variances of slopes and third derivatives, by that of curvatures
FAILURES = 10  # rounds without progress before another start
VAIN = 4  # failures that a round without promise counts as
NEWTON = 6  # steps of Newton's method


class QuadraticModelState(NamedTuple):
    """The best point, the remembered points, their model, the region and the trial."""

    random: Random
    x: jax.Array  # the best point, and its value
    value: jax.Array
    base: jax.Array  # the center of the region
    base_value: jax.Array  # inf before a start has a value
    points: jax.Array  # (n, d), nearest to the base
    values: jax.Array  # (n,), inf in empty places
    curvature: jax.Array  # (d, d), in units of the range
    radius: jax.Array
    trial: jax.Array
    promise: jax.Array  # the model's value of the trial, minus the base's
    reach: jax.Array  # distance of the trial, in radii
    explores: jax.Array  # whether a batch of one point is a direction
    failures: jax.Array


@reused
def quadratic_model(*, batch_size: int = 1) -> Algorithm:
    """Fits a quadratic model to the nearest points, and steps to its minimum in a trust region.

        f(x + r s) - f(x) = g's + s'H s / 2 + e(s),    |s| <= 1,    Var e ~ |s|^6

    The fit is the mean of a Gaussian process: g has a wide prior, H changes least (Frobenius norm), and e
    stands for third derivatives. Each batch has the model's minimum and points beside it, in random
    directions. So every evaluation adds to the model, whatever the batch size. The region doubles after
    good steps at its boundary, and halves after bad ones. After ten rounds without progress it starts
    elsewhere. A better injected point becomes the center. Use it for smooth functions of up to some 40
    coordinates, evaluated in parallel. Coordinates that are not continuous stay as they are.

    Args:
      batch_size: points of one ask, for parallel evaluations. With 1, trials and directions alternate.

    Raises:
      ValueError: a batch_size below 1; a space without a continuous coordinate.

    References:
      Powell, `The NEWUOA software for unconstrained optimization without derivatives
      <https://doi.org/10.1007/0-387-30065-1_16>`_, 2006.

    >>> from zojax import search
    >>> def rosenbrock(x):
    ...     return 100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2
    >>> found = search.minimize(rosenbrock, search.uniform(-2, 2, (2,)), search.quadratic_model(),
    ...                         budget=200, key=0, jit=False)
    >>> bool(found.best_value < 1e-6)
    True
    """
    batch_size = require_count("batch_size", batch_size)

    def init(key, space: Space, budget: int) -> QuadraticModelState:
        del budget
        require_continuous("quadratic_model", space)
        d, dtype = space.dimension, float_dtype()
        n = min((d + 1) * (d + 2) // 2 + batch_size, max(MOST, 2 * batch_size))
        x = space.sample(key, 1)[0].astype(dtype)
        zero, inf = jnp.zeros((), dtype), jnp.asarray(np.inf, dtype)
        return QuadraticModelState(
            random=make_random(key),
            x=x,
            value=inf,
            base=x,
            base_value=inf,
            points=jnp.broadcast_to(x, (n, d)),
            values=jnp.full(n, jnp.inf, dtype),
            curvature=jnp.zeros((d, d), dtype),
            radius=jnp.asarray(FIRST, dtype),
            trial=x,
            promise=zero,
            reach=zero,
            explores=jnp.bool_(False),
            failures=jnp.int32(0),
        )

    ask = partial(_ask, batch_size)
    return Algorithm(init, ask, _tell, recommended, _inject, batch_size=batch_size)


def _ask(n: int, space: Space, state: QuadraticModelState):
    def start(state):
        return starts_between(space, state.random, n, state.x, state.value), state

    def go_on(state):
        aside = _directions(space, state, n)
        if n == 1:
            state = lax.cond(state.explores, lambda s: s, partial(_with_trial, space), state)
            return jnp.where(state.explores, state.base + aside, state.trial), state
        state = _with_trial(space, state)
        first = (jnp.arange(n) == 0)[:, None]
        return state.trial + jnp.where(first, 0.0, aside), state

    x, state = lax.cond(jnp.isinf(state.base_value), start, go_on, state)
    return space.clip(x), state._replace(random=advance(state.random))


def _directions(space: Space, state: QuadraticModelState, n: int) -> jax.Array:
    """Steps (n, d) in random directions, orthogonal in each d."""
    d = space.dimension
    z = standard_normal(words(state.random, d * d)).astype(state.x.dtype).reshape(d, d)
    basis = jnp.linalg.eigh(z + z.T)[1]  # random, as the normals are
    z = jnp.where(space.kinds == CONTINUOUS, basis[np.arange(n) % d], 0.0)
    length = jnp.sqrt(jnp.sum(z * z, axis=1, keepdims=True))
    sign = np.where(np.arange(n) // d % 2, -1.0, 1.0)[:, None]
    return ASIDE * state.radius * span_of(space) * sign * z / jnp.maximum(length, 1e-30)


def _with_trial(space: Space, state: QuadraticModelState) -> QuadraticModelState:
    """The model of the remembered points, and its minimum in the region."""
    low, high = bounds_of(space)
    unit = state.radius * span_of(space)
    gradient, curvature = _fit(state, unit)
    stopped = (state.base <= low) & (gradient > 0) | (state.base >= high) & (gradient < 0)
    free = (space.kinds == CONTINUOUS) & ~stopped
    step = _minimum(gradient, curvature, free)
    trial = space.clip(state.base + unit * step)
    step = (trial - state.base) / unit
    return state._replace(
        curvature=curvature / state.radius**2,
        trial=trial,
        promise=gradient @ step + 0.5 * (step @ curvature @ step),
        reach=jnp.sqrt(step @ step),
    )


def _fit(state: QuadraticModelState, unit: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(gradient (d,), curvature (d, d)) at the base, in units of the radius."""
    steps = (state.points - state.base) / unit
    squares = jnp.sum(steps * steps, axis=1)
    known = jnp.isfinite(state.values) & (squares > 0)
    steps = jnp.where(known[:, None], steps, 0.0)
    squares = jnp.where(known, squares, 0.0)
    before = state.curvature * state.radius**2
    told = 0.5 * jnp.sum((steps @ before) * steps, axis=1)
    rest = jnp.where(known, state.values - state.base_value - told, 0.0)
    products = steps @ steps.T
    kernel = SLOPE * products + 0.5 * products**2
    total = SLOPE * squares + 0.5 * squares**2
    noise = ERROR * squares**3 + 100 * jnp.finfo(total.dtype).eps * total
    kernel += jnp.diag(jnp.where(known, noise, 1.0))
    factor = lax.linalg.cholesky(kernel, symmetrize_input=False)
    solve = partial(lax.linalg.triangular_solve, factor, left_side=True, lower=True)
    weights = solve(solve(rest[:, None]), transpose_a=True)[:, 0]
    sound = jnp.all(jnp.isfinite(weights))
    weights = jnp.where(sound, weights, 0.0)
    return SLOPE * (weights @ steps), before + (steps.T * weights) @ steps


def _minimum(gradient: jax.Array, curvature: jax.Array, free: jax.Array) -> jax.Array:
    """argmin g's + s'H s / 2 in |s| <= 1 among free coordinates: s = -(H + m I)^-1 g, least m >= 0."""
    g = jnp.where(free, gradient, 0.0)
    top = jnp.maximum(jnp.max(jnp.abs(curvature)), 1e-30)
    h = jnp.where(free[:, None] & free, curvature, 0.0) + jnp.diag(jnp.where(free, 0.0, top))
    values, basis = jnp.linalg.eigh(h)
    q = g @ basis
    least, tiny = jnp.maximum(-jnp.min(values), 0.0), jnp.finfo(g.dtype).eps * top

    def closer(extra, _):  # Newton's method for 1 / |s| = 1
        shifted = values + least + extra
        parts = (q / shifted) ** 2
        length = jnp.sqrt(jnp.sum(parts))
        return jnp.maximum(extra + length**2 * (length - 1) / jnp.sum(parts / shifted), tiny), None

    # The step has length 1 or more at the first multiplier, but no coordinate has.
    first = jnp.maximum(jnp.max(jnp.abs(q) - values - least), tiny)
    extra, _ = lax.scan(closer, first, None, length=NEWTON)
    newton = q / values
    inside = (jnp.min(values) > tiny) & (newton @ newton <= 1)
    step = -basis @ (q / (values + jnp.where(inside, 0.0, least + extra)))
    return jnp.where(free & (g @ g > 0), step, 0.0)


def _tell(space: Space, state: QuadraticModelState, x, values) -> QuadraticModelState:
    begins = jnp.isinf(state.base_value)
    tried = ~begins & ~state.explores
    moved = select(tried, _after_trial(state, values[0]), state)
    # The lowest of several new starts may lie in the old basin.
    again = begins & jnp.isfinite(state.value)
    i = jnp.argmin(jnp.where(again, jnp.where(jnp.isfinite(values), 0.0, np.inf), values))
    least = 4 * jnp.finfo(values.dtype).eps * jnp.abs(moved.base_value)
    gains = values[i] < moved.base_value - least
    failure = jnp.where(-moved.promise > least, 1, VAIN)
    failures = jnp.where(gains | begins, 0, moved.failures + tried * failure)
    better = values[i] < moved.base_value
    base = jnp.where(better, x[i], moved.base)
    points, all_values = _nearest(space, moved, base, x, values)
    told = keep_best(moved, x[i], values[i])._replace(
        base=base,
        base_value=jnp.where(better, values[i], moved.base_value),
        points=points,
        values=all_values,
        explores=(len(values) == 1) & ~moved.explores & ~begins,
        failures=failures,
    )
    return select(failures >= FAILURES, _restarted(told), told)


def _after_trial(state: QuadraticModelState, value) -> QuadraticModelState:
    """The region after the value of its trial."""
    gain, radius = state.base_value - value, state.radius
    share = gain / jnp.maximum(-state.promise, 1e-300 if value.dtype == np.float64 else 1e-38)
    grows = (share > 0.5) & (state.reach > 0.9)
    shrinks = ~(gain > 0) | (share < 0.1)
    radius = jnp.where(grows, jnp.minimum(2 * radius, WIDEST), radius)
    least = jnp.asarray(4 * jnp.finfo(value.dtype).eps, radius.dtype)
    return state._replace(radius=jnp.where(shrinks, jnp.maximum(radius / 2, least), radius))


def _nearest(space: Space, state: QuadraticModelState, base, x, values):
    """The remembered points and new ones, (points, values), without those farthest from the base."""
    points = jnp.concatenate([state.points, x.astype(state.points.dtype)])
    values = jnp.concatenate([state.values, values.astype(state.values.dtype)])
    steps = (points - base) / span_of(space)
    # The model is one of continuous coordinates.
    same = jnp.all((points == base) | (space.kinds == CONTINUOUS), axis=1)
    values = jnp.where(same, values, jnp.inf)
    distances = jnp.where(jnp.isfinite(values), jnp.sum(steps * steps, axis=1), jnp.inf)
    kept = jnp.argsort(distances)[: len(state.values)]
    return points[kept], values[kept]


def _restarted(state: QuadraticModelState) -> QuadraticModelState:
    """The state before another start."""
    inf = jnp.full_like(state.base_value, np.inf)
    return state._replace(
        base_value=inf,
        values=jnp.full_like(state.values, np.inf),
        curvature=jnp.zeros_like(state.curvature),
        radius=jnp.full_like(state.radius, FIRST),
        explores=jnp.bool_(False),
        failures=jnp.int32(0),
    )


def _inject(space: Space, state: QuadraticModelState, x, value) -> QuadraticModelState:
    """A better point becomes the center of the region."""
    points, values = _nearest(space, state, x, x[None], value[None])
    jumped = keep_best(state, x, value)._replace(
        base=x,
        base_value=value.astype(state.base_value.dtype),
        points=points,
        values=values,
        explores=jnp.bool_(False),
        failures=jnp.int32(0),
    )
    return select(value < state.value, jumped, state)
