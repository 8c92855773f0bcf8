"""TuRBO: Bayesian optimization in a trust region, for small budgets."""

import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from zojax._checks import require_count
from zojax._numerics import float_dtype
from zojax.search._later import at_size
from zojax.search._random import Random, advance, index_from, make_random, to_unit, words
from zojax.search.algorithms import _gaussian_process as gp
from zojax.search.algorithms._algorithm import Algorithm
from zojax.search.algorithms._arrays import set_row
from zojax.search.algorithms._toolkit import keep_best, recommended, reused, sequential
from zojax.search.spaces import CONTINUOUS, UNORDERED, Space

MOST = 127  # remembered points; LAPACK wakes threads at 128
STEP = 32  # a process has a multiple of it as rows
CANDIDATES, ROUNDS, ZOOM = 128, 5, 0.25  # of an ask; each round is closer to the last one's best
FIRST, LATER = 30, 2  # steps of the fit: after the starts, and in each ask
LENGTH, LONGEST, SHORTEST = 0.8, 1.6, 2.0**-10  # of the region's sides, in units of the range
SUCCESSES, FAILURES = 3, 4  # in a row, until the region grows or shrinks; max(d, 4) failures
GAIN = 1e-3  # least gain of a success, in median distances from the best value


class TurboState(NamedTuple):
    """The known points, the fit of the process, and the region around the best point."""

    random: Random
    starts: jax.Array  # (num_starts, d), evaluated first
    points: jax.Array  # (n, d)
    values: jax.Array  # (n,)
    told: jax.Array  # number of points so far
    fit: gp.Fit
    length: jax.Array
    successes: jax.Array  # in a row
    failures: jax.Array
    x: jax.Array  # the best point, and its value
    value: jax.Array


@reused
def turbo(num_starts: int = 10) -> Algorithm:
    """A Gaussian process proposes each point, from a trust region around the best one.

    - **Starts.** `num_starts` points of a Latin hypercube, at most half the budget. More uniform points
      follow until a value is finite.
    - **Process.** A Matérn kernel with one length per coordinate, plus a quadratic trend. Values are
      log(1 + (f - f_best) / median), standardized. Two steps of Adam per evaluation improve lengths, trend
      and noise. Options of a coordinate without order are equally far from each other.
    - **Proposal.** The candidate with the largest expected improvement. Candidates change a random share
      of the best point's coordinates, within the region. Four more rounds look around the best candidate,
      each four times closer.
    - **Region.** Its sides are proportional to the lengths. Three successes in a row double them, and
      max(4, d) failures halve them.

    Use it for expensive functions, up to about 200 evaluations and 20 coordinates. An ask takes
    milliseconds. It remembers the best 127 points. Failed evaluations count as the worst known value.

    Args:
      num_starts: points before the first proposal of the process.

    Raises:
      ValueError: num_starts below 1.

    References:
      Eriksson, Pearce, Gardner, Turner and Poloczek, `Scalable global optimization via local Bayesian
      optimization <https://arxiv.org/abs/1910.01739>`_, NeurIPS 2019.

    >>> from zojax import search
    >>> import numpy as np
    >>> def valley(x):
    ...     return float(100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2)
    >>> found = search.minimize(valley, search.uniform(-2, 2, (2,)), search.turbo(), budget=40, key=0)
    >>> bool(found.best_value < 0.5)
    True
    """
    num_starts = require_count("num_starts", num_starts)

    def init(key, space: Space, budget: int) -> TurboState:
        random, dtype = make_random(key), float_dtype()
        starts = _latin_hypercube(space, random, max(1, min(num_starts, budget // 2))).astype(dtype)
        n = min(MOST, max(2, budget))
        return TurboState(
            random=advance(random),
            starts=starts,
            points=jnp.broadcast_to(starts[0], (n, space.dimension)),
            values=jnp.full(n, jnp.inf, dtype),
            told=jnp.int32(0),
            fit=gp.first_fit(space),
            length=jnp.asarray(LENGTH, dtype),
            successes=jnp.int32(0),
            failures=jnp.int32(0),
            x=starts[0],
            value=jnp.asarray(np.inf, dtype),
        )

    return Algorithm(init, _ask, sequential(_tell), recommended, _inject)


def _latin_hypercube(space: Space, random: Random, n: int) -> jax.Array:
    """n points (n, d): in each coordinate, one in each of n equal intervals."""
    u = to_unit(words(random, 2 * n * space.dimension)).reshape(2, n, space.dimension)
    return space.from_unit((jnp.argsort(u[0], axis=0) + u[1]) / n)


def _ask(space: Space, state: TurboState):
    def start(state: TurboState):
        later = space.from_unit(to_unit(words(state.random, space.dimension)))
        first = state.starts[jnp.minimum(state.told, len(state.starts) - 1)]
        x = jnp.where(state.told < len(state.starts), first, later)
        return x, state._replace(random=advance(state.random))

    def propose(state: TurboState):
        n = len(state.values)
        sizes = [*range(STEP, n, STEP), n]
        return at_size(state.told, sizes, partial(_propose, space), state)

    begins = (state.told < len(state.starts)) | jnp.isinf(state.value)
    x, state = lax.cond(begins, start, propose, state)
    return x[None], state


def _tell(space: Space, state: TurboState, x, value) -> TurboState:
    better = value < state.value - GAIN * _distance(state)
    successes = jnp.where(better, state.successes + 1, 0)
    failures = jnp.where(better, 0, state.failures + 1)
    grows, shrinks = successes >= SUCCESSES, failures >= max(FAILURES, space.dimension)
    factor = jnp.where(grows, 2.0, jnp.where(shrinks, 0.5, 1.0))
    begins, over = state.told < len(state.starts), grows | shrinks
    length = jnp.clip(factor.astype(state.length.dtype) * state.length, SHORTEST, LONGEST)
    state = state._replace(
        length=jnp.where(begins, state.length, length),
        successes=jnp.where(begins | over, 0, successes),
        failures=jnp.where(begins | over, 0, failures),
    )
    return _inject(space, state, x, value)


def _inject(space: Space, state: TurboState, x, value) -> TurboState:
    """A full memory forgets its worst point."""
    del space
    n = len(state.values)
    place = jnp.where(state.told < n, state.told, jnp.argmax(state.values)).astype(jnp.uint32)
    state = state._replace(
        points=set_row(state.points, place, x.astype(state.points.dtype)),
        values=set_row(state.values, place, value.astype(state.values.dtype)),
        told=state.told + 1,
    )
    return keep_best(state, x, value)


def _propose(space: Space, n: int, state: TurboState):
    """(the candidate with the largest expected improvement, the next state), of the first n points."""
    # Near the best point, small differences matter most: it is the origin.
    origin = gp.features(space, state.x[None])
    data = _data(space, state, n, origin)
    fresh = state.told <= len(state.starts)
    fit = gp.refined(space, state.fit, data, jnp.where(fresh, FIRST, LATER))
    process = gp.posterior(space, fit.logs, data)
    smoothed = data.values - process.noise * process.weights
    lowest = jnp.min(jnp.where(data.known, smoothed, jnp.inf))
    lengths = jnp.exp(fit.logs[: space.dimension] - jnp.mean(fit.logs[: space.dimension]))

    def closer(carry, of_round):
        (x, score), (moves, zoom) = carry, of_round
        near = _candidates(space, moves, x, 0.5 * zoom * state.length * lengths)
        mean, variance = gp.predicted(process, gp.features(space, near) - origin)
        scores = _expected_improvement(lowest - mean, jnp.sqrt(variance))
        i = jnp.argmax(scores)
        return (jnp.where(scores[i] > score, near[i], x), jnp.maximum(scores[i], score)), None

    zooms = jnp.asarray(ZOOM ** np.arange(ROUNDS), state.x.dtype)
    start = state.x, jnp.asarray(-np.inf, state.value.dtype)
    (x, _), _ = lax.scan(closer, start, (_moves(state.random, space.dimension), zooms))
    draws = state.random.draws + np.uint32(ROUNDS)
    return x, state._replace(random=state.random._replace(draws=draws), fit=fit)


def _data(space: Space, state: TurboState, n: int, origin: jax.Array) -> gp.Data:
    """Features from the origin, and standardized logarithms of distances from the best value."""
    known = jnp.arange(n) < state.told
    logs = jnp.log1p((state.values[:n] - state.value) / jnp.maximum(_distance(state), 1e-30))
    finite = jnp.isfinite(logs)
    logs = jnp.where(finite, logs, jnp.max(jnp.where(finite, logs, 0)))
    count = jnp.sum(known)
    centered = jnp.where(known, logs - jnp.sum(jnp.where(known, logs, 0)) / count, 0)
    deviation = jnp.maximum(jnp.sqrt(jnp.sum(centered**2) / count), 1e-12)
    return gp.Data(gp.features(space, state.points[:n]) - origin, centered / deviation, known)


def _distance(state: TurboState) -> jax.Array:
    """The median distance of finite values from the best one; 0 without any."""
    distances = jnp.sort(jnp.where(jnp.isfinite(state.values), state.values - state.value, jnp.inf))
    middle = distances[jnp.sum(jnp.isfinite(distances)) // 2]
    return jnp.where(jnp.isfinite(middle), middle, 0)


def _moves(random: Random, d: int) -> tuple[jax.Array, jax.Array]:
    """(the coordinates that move, at least one; uniform places), (ROUNDS, CANDIDATES, d) each."""
    draws = random.draws + np.arange(ROUNDS, dtype=np.uint32)
    num = CANDIDATES * (2 * d + 2)
    u = to_unit(jax.vmap(lambda row: words(Random(random.seed, row), num))(draws)).reshape(
        ROUNDS, CANDIDATES, -1
    )
    coins, places, one, share = jnp.split(u, [d, 2 * d, 2 * d + 1], axis=2)
    return (coins < share) | (jnp.arange(d) == index_from(one, d)), places


def _candidates(space: Space, moves: tuple[jax.Array, jax.Array], x, half) -> jax.Array:
    """Candidates (n, d): each changes a random share of the coordinates of x."""
    changes, places = moves
    # The region holds the neighbours of an integer, and all options.
    cell = jnp.where(space.kinds == CONTINUOUS, 0, 1 / (space.high - space.low + 1))
    half = jnp.maximum(half, jnp.where(space.kinds == UNORDERED, 1, cell).astype(half.dtype))
    center = space.to_unit(x)
    low, high = jnp.maximum(center - half, 0), jnp.minimum(center + half, 1)
    return space.clip(jnp.where(changes, space.from_unit(low + places * (high - low)), x))


def _expected_improvement(gain: jax.Array, deviation: jax.Array) -> jax.Array:
    z = gain / deviation
    density = jnp.exp(-z * z / 2) / math.sqrt(2 * math.pi)
    return gain * 0.5 * lax.erfc(-z / math.sqrt(2)) + deviation * density
