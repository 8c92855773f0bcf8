"""TuRBO: Bayesian optimization in a trust region, for small budgets."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from zojax._checks import require_count
from zojax._numerics import float_dtype
from zojax.search._random import Random, advance, index_from, make_random, to_unit, words
from zojax.search.algorithms import _gaussian_process as gp
from zojax.search.algorithms._algorithm import Algorithm
from zojax.search.algorithms._arrays import set_row
from zojax.search.algorithms._toolkit import keep_best, recommended, reused, sequential
from zojax.search.spaces import CONTINUOUS, UNORDERED, Space

CANDIDATES, ROUNDS = 128, 5  # of an ask; each round is closer to the best candidate of the last
ZOOM = 0.25
FIRST, LATER = 30, 2  # steps of the fit, after the starts and in each ask
LONGEST, LENGTH, SHORTEST = 1.6, 0.8, 2.0**-10  # sides of the region, in units of the range
SUCCESSES = 3  # in a row, after which the region grows


class TurboState(NamedTuple):
    """The known points, the fit of the process, and the trust region around the best point."""

    random: Random
    starts: jax.Array  # (num_starts, d), evaluated first
    points: jax.Array  # (capacity, d)
    values: jax.Array  # (capacity,)
    count: jax.Array  # of known points
    fit: gp.Fit
    length: jax.Array  # of the region
    successes: jax.Array
    failures: jax.Array
    x: jax.Array
    value: jax.Array


@reused
def turbo(num_starts: int = 10, *, capacity: int = 128) -> Algorithm:
    """doc"""
    num_starts, capacity = (
        require_count("num_starts", num_starts),
        require_count("capacity", capacity),
    )

    def init(key, space: Space, budget: int) -> TurboState:
        d, dtype, random = space.dimension, float_dtype(), make_random(key)
        n = max(1, min(num_starts, budget // 2))
        capacity_ = max(2, min(capacity, budget))
        starts = latin_hypercube(space, random, n).astype(dtype)
        return TurboState(
            random=advance(random),
            starts=starts,
            points=jnp.broadcast_to(starts[0], (capacity_, d)),
            values=jnp.full(capacity_, jnp.inf, dtype),
            count=jnp.int32(0),
            fit=gp.first_fit(space),
            length=jnp.asarray(LENGTH, dtype),
            successes=jnp.int32(0),
            failures=jnp.int32(0),
            x=starts[0],
            value=jnp.asarray(np.inf, dtype),
        )

    return Algorithm(init, _ask, sequential(_tell), recommended, _inject)


def latin_hypercube(space: Space, random: Random, n: int) -> jax.Array:
    """n points (n, d): in each coordinate, one in each of n equal intervals."""
    u = to_unit(words(random, 2 * n * space.dimension)).reshape(2, n, space.dimension)
    return space.from_unit((jnp.argsort(u[0], axis=0) + u[1]) / n)


def _ask(space: Space, state: TurboState):
    def start(state: TurboState):
        return state.starts[jnp.minimum(state.count, len(state.starts) - 1)], state

    starts = (state.count < len(state.starts)) | ~jnp.isfinite(state.value)

    x, state = lax.cond(starts, start, lambda state: _propose(space, state), state)
    return x[None], state


def _tell(space: Space, state: TurboState, x, value) -> TurboState:
    scale = _scale(state)
    known = state.count >= len(state.starts)
    better = value < state.value - 1e-3 * jnp.where(jnp.isfinite(scale), scale, 0)
    successes = jnp.where(better, state.successes + 1, 0)
    failures = jnp.where(better, 0, state.failures + 1)
    grows, shrinks = successes >= SUCCESSES, failures >= max(4, space.dimension)
    length = jnp.where(
        grows, 2 * state.length, jnp.where(shrinks, 0.5 * state.length, state.length)
    )
    over = grows | shrinks | ~known
    state = state._replace(
        length=jnp.where(known, jnp.clip(length, SHORTEST, LONGEST), state.length),
        successes=jnp.where(over, 0, successes),
        failures=jnp.where(over, 0, failures),
    )
    return _inject(space, state, x, value)


def _inject(space: Space, state: TurboState, x, value) -> TurboState:
    """A full memory forgets its worst point."""
    del space
    capacity = len(state.values)
    place = jnp.where(state.count < capacity, state.count, jnp.argmax(state.values))
    place = place.astype(jnp.uint32)
    state = state._replace(
        points=set_row(state.points, place, x.astype(state.points.dtype)),
        values=set_row(state.values, place, value.astype(state.values.dtype)),
        count=state.count + 1,
    )
    return keep_best(state, x, value)


def _scale(state: TurboState):
    """The median distance from the best value."""
    gap = jnp.sort(state.values - state.value)
    finite = jnp.sum(jnp.isfinite(gap))
    return gap[jnp.minimum(finite // 2, len(gap) - 1)]


def _propose(space: Space, state: TurboState):
    known = jnp.arange(len(state.values)) < state.count
    values = _standardized(state, known)
    rows = gp.features(space, state.points)
    first = state.count <= len(state.starts)
    fit = gp.refined(space, state.fit, rows, known, values, jnp.where(first, FIRST, LATER))
    process = gp.posterior(space, fit, rows, known, values)
    residual = values - process.noise * process.weights
    lowest = jnp.min(jnp.where(known, residual, jnp.inf))
    sides = _sides(space, fit, state.length)

    def closer(carry, zoom):
        x, score, random = carry
        near = _around(space, random, x, zoom * sides)
        mean, variance = gp.predicted(process, gp.scaled(space, fit, gp.features(space, near)))
        scores = _expected_improvement(lowest - mean, jnp.sqrt(variance))
        i = jnp.argmax(scores)
        better = scores[i] > score
        carry = jnp.where(better, near[i], x), jnp.maximum(scores[i], score), advance(random)
        return carry, None

    start = state.x, jnp.asarray(-jnp.inf, state.x.dtype), state.random
    zooms = jnp.asarray(ZOOM ** np.arange(ROUNDS), state.x.dtype)
    (x, _, random), _ = lax.scan(closer, start, zooms)
    return x, state._replace(random=random, fit=fit)


def _standardized(state: TurboState, known):
    """Values of mean 0 and variance 1; the logarithm tames those far above the best."""
    finite = known & jnp.isfinite(state.values)
    warped = jnp.log1p((state.values - state.value) / jnp.maximum(_scale(state), 1e-30))
    warped = jnp.where(finite, warped, jnp.max(jnp.where(finite, warped, 0)))  # failures are worst
    n = jnp.maximum(jnp.sum(known), 1)
    centered = jnp.where(known, warped - jnp.sum(jnp.where(known, warped, 0)) / n, 0)
    deviation = jnp.sqrt(jnp.sum(centered**2) / n)
    return centered / jnp.maximum(deviation, 1e-12)


def _sides(space: Space, fit: gp.Fit, length):
    """Half sides (d,) of the region in units of the range, by the lengths of the process."""
    logs = fit.logs[:-1]
    half = 0.5 * length * jnp.exp(logs - jnp.mean(logs))
    return half


def _around(space: Space, random: Random, x, half):
    """Candidates (n, d): each moves a random share of the coordinates of x, at least one."""
    d = space.dimension
    u = to_unit(words(random, CANDIDATES * (2 * d + 2))).reshape(CANDIDATES, 2 * d + 2)
    center = space.to_unit(x)
    # A cell of a discrete coordinate ends half a cell away. Options have no neighbours.
    cell = np.where(space.kinds == CONTINUOUS, 0, 1 / (space.high - space.low + 1))
    half = jnp.maximum(half, cell.astype(half.dtype))
    half = jnp.where(space.kinds == UNORDERED, 1, half)
    low, high = jnp.maximum(center - half, 0), jnp.minimum(center + half, 1)
    moved = (u[:, :d] < u[:, -1:]) | (jnp.arange(d) == index_from(u[:, -2:-1], d))
    near = space.from_unit(low + u[:, d : 2 * d] * (high - low))
    return jnp.where(moved, near, x)


def _expected_improvement(gain, deviation):
    z = gain / deviation
    return gain * jax.scipy.stats.norm.cdf(z) + deviation * jnp.exp(-0.5 * z * z) / np.sqrt(
        2 * np.pi
    )
