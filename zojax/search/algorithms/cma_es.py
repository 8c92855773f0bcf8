"""CMA-ES with restarts: a normal distribution that learns the shape of the function."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from zojax._checks import require_count
from zojax._numerics import float_dtype
from zojax.search._later import changed_if
from zojax.search._random import Random, make_random, normals, to_unit, words
from zojax.search.algorithms._algorithm import Algorithm
from zojax.search.algorithms._bipop import Regime, first_regime, next_regime
from zojax.search.algorithms._evolution import (
    Distribution,
    add_members,
    first_distribution,
    next_distribution,
    no_sums,
    place,
    rates_of,
)
from zojax.search.algorithms._shares import first_shares, moved_shares, option_at, share_of
from zojax.search.algorithms._toolkit import keep_best, recommended, reused
from zojax.search.spaces import ORDERED, UNORDERED, Space

STEP = 0.25  # the first deviation, in units of the range
GENERATIONS = 25  # of a large population in the budget, at least
PER_MEMBER = 12  # evaluations in vain for each further member with noise; 5 d / 2 if that is more
LAG = 5  # generations, after which values should be lower
LARGEST = 1024  # population with noise
NARROW = 1e-12  # deviation, in units of the range, that ends a run
LEAST_DEVIATION = 0.2  # of an integer: 1 in 80 members leaves a mean in the middle of its cell
BLOCK = 16  # members at once, so that a small population in large arrays costs little


class CmaState(NamedTuple):
    """The distribution, the values of this generation, the run and the recommendation."""

    random: Random  # `draws` is the number of the generation's first member
    distribution: Distribution
    shares: jax.Array  # (d, options), for coordinates without order
    regime: Regime
    told: jax.Array  # evaluated members of this generation
    values: jax.Array  # (capacity,), inf for members to come
    lows: jax.Array  # lowest values of this run's last generations; with noise, medians
    stalled: jax.Array  # evaluations of generations in vain, with noise
    x: jax.Array  # the recommendation, and its value
    value: jax.Array


@reused
def cma_es(population: int | None = None, *, noisy: bool = False, batch_size: int = 1) -> Algorithm:
    """CMA-ES: active, with BIPOP restarts, box constraints, integers and options.

        x_i = m + s y_i,  y_i = A z_i,  A A' = C,        m <- m + s sum_i max(w_i, 0) y_i
        C <- (1 - c_1 - c_n sum w) C + c_1 p p' + c_n sum_i w_i y_i y_i',   s <- s exp(c (|q| / E|z| - 1))

    Weights w fall with the rank of the value, and bad members have negative ones; p and q average past
    steps. Only ranks matter, not values. Above 100 coordinates, C is diagonal. Bounds reflect. Integers
    are rounded, and keep a deviation of at least .2 (Marty et al.). A coordinate without order has a
    probability for each option. A run ends when its values or steps no longer change. The next run starts
    elsewhere, with twice the population or with a small one.

    Args:
      population: n of the first run, at least 4. By default, 4 + 3 ln d.
      noisy: for noisy functions. The answer is the mean m with the median value of the last population,
        instead of the best point. There are no restarts. By default, the population grows where values no
        longer fall, because large ones average the noise near the optimum: by a member for each
        max(12, 5 d / 2) evaluations of generations whose median is not below that of five generations
        before, to at most 1024.
      batch_size: points of one ask, for parallel evaluations. Populations are multiples of it.

    Returns:
      An `Algorithm`.

    Raises:
      ValueError: a population below 4; a batch_size below 1.

    References:
      Hansen, `The CMA evolution strategy: a tutorial <https://arxiv.org/abs/1604.00772>`_, 2016. Hansen,
      `Benchmarking a BI-population CMA-ES <https://doi.org/10.1145/1570256.1570333>`_, 2009. Marty et
      al., LB+IC-CMA-ES: two simple modifications of CMA-ES to handle mixed-integer problems, 2024.

    >>> from zojax import search
    >>> import numpy as np
    >>> def ridge(x):
    ...     return float(np.sum((x - 0.3) ** 2) + 1e3 * np.sum(x - 0.3) ** 2)
    >>> found = search.minimize(ridge, search.uniform(-1, 1, (4,)), search.cma_es(), budget=1500, key=0)
    >>> bool(found.best_value < 1e-6)
    True
    """
    batch_size = require_count("batch_size", batch_size)
    if population is not None and require_count("population", population) < 4:
        raise ValueError(f"population must be at least 4, got {population}.")

    def least(space: Space) -> int:
        n = population or default_population(space.dimension)
        return -(-n // batch_size) * batch_size

    def per_member(space: Space) -> int:
        """Evaluations in vain for each further member of a noisy search."""
        return 2**31 - 1 if population else max(PER_MEMBER, 5 * space.dimension // 2)

    def init(key, space: Space, budget: int) -> CmaState:
        n, dtype = least(space), float_dtype()
        last = min(budget / per_member(space), LARGEST)
        most = last if noisy else budget / (2 * GENERATIONS)
        doublings = int(np.log2(max(1, most / n)))  # so that most budgets share programs
        x = space.sample(key, 1)[0].astype(dtype)
        return CmaState(
            random=make_random(key),
            distribution=first_distribution(_to_units(space, x), STEP),
            shares=first_shares(space, dtype),
            regime=first_regime(n, STEP, dtype),
            told=jnp.int32(0),
            values=jnp.full(n * 2**doublings, jnp.inf, dtype),
            lows=jnp.full(10 + int(np.ceil(30 * space.dimension / n)), jnp.inf, dtype),
            stalled=jnp.int32(0),
            x=x,
            value=jnp.asarray(np.inf, dtype),
        )

    def restart(space: Space, state: CmaState, values) -> CmaState:
        del values
        over = partial(_next_run, space, least(space), batch_size)
        return changed_if(_is_over(state), over, state)

    def recommend(space: Space, state: CmaState, values) -> CmaState:
        state = _recommend_mean(space, state, values)
        grown = least(space) + lax.div(state.stalled, np.int32(per_member(space)))
        n = lax.div(jnp.minimum(grown, min(LARGEST, len(values))), np.int32(batch_size))
        return state._replace(regime=state.regime._replace(population=n * batch_size))

    return Algorithm(
        init,
        partial(_ask, batch_size),
        partial(_tell, recommend if noisy else restart, _first_best if noisy else keep_best),
        recommended,
        _inject,
        batch_size=batch_size,
        repeats_points=noisy,
        forget=_forget,
    )


def default_population(d: int) -> int:
    """4 + 3 ln d."""
    return 4 + int(3 * np.log(d))


def _ask(batch_size: int, space: Space, state: CmaState):
    members = state.told + jnp.arange(batch_size)
    u = place(state.distribution, _normals(space, state, members))
    return _points(space, u, _options(space, state, members)), state


def _tell(after, keep, space: Space, state: CmaState, x, values) -> CmaState:
    for i in range(len(values)):
        state = keep(state, x[i], values[i])
    told = lax.dynamic_update_slice(state.values, values.astype(state.values.dtype), (state.told,))
    state = state._replace(values=told, told=state.told + len(values))

    def finish(state: CmaState) -> CmaState:
        draws = state.random.draws + state.regime.population.astype(jnp.uint32)
        new = _learn(space, state)._replace(
            random=state.random._replace(draws=draws),
            told=jnp.int32(0),
            values=jnp.full_like(state.values, jnp.inf),
        )
        return after(space, new, state.values)

    complete = state.told >= state.regime.population
    return changed_if(complete, finish, state)


def _inject(space: Space, state: CmaState, x, value) -> CmaState:
    """Before the first value, a better point becomes the mean. Later it would upset the paths."""
    fresh = (state.told == 0) & (state.distribution.generation == 0)
    better = (value < state.value) & fresh
    mean = jnp.where(better, _to_units(space, x), state.distribution.mean)
    state = state._replace(distribution=state.distribution._replace(mean=mean))
    return keep_best(state, x, value)


def _forget(state: CmaState) -> CmaState:
    """The run goes on, without a recommendation and without the values that say whether it is over."""
    inf = jnp.full_like(state.lows, np.inf)
    return state._replace(value=inf[0], lows=inf)


def _first_best(state: CmaState, x, value) -> CmaState:
    """The best point, until the first generation is complete."""
    return keep_best(state, x, jnp.where(state.distribution.generation == 0, value, jnp.inf))


def _recommend_mean(space: Space, state: CmaState, values: jax.Array) -> CmaState:
    n = state.regime.population
    median = jnp.sort(values)[lax.div(n, np.int32(2))]
    in_vain = median >= state.lows[LAG]
    options = jnp.argmax(state.shares, axis=1)
    return state._replace(
        x=_points(space, state.distribution.mean, options),
        value=jnp.where(jnp.isfinite(median), median, state.value),
        lows=jnp.concatenate([median[None], state.lows[1:]]),
        stalled=state.stalled + jnp.where(in_vain, n, 0),
    )


def _next_run(space: Space, least: int, batch_size: int, state: CmaState) -> CmaState:
    """A run from another random point."""
    d = space.dimension
    u = to_unit(words(state.random, d + 2, start=2 * d))
    most, evaluations = len(state.values), state.random.draws.astype(jnp.int32)
    regime = next_regime(state.regime, evaluations, u[:2], least=least, most=most, step=STEP)
    population = -(-regime.population // batch_size) * batch_size
    return state._replace(
        distribution=first_distribution(_to_units(space, space.from_unit(u[2:])), regime.step),
        shares=first_shares(space, state.shares.dtype),
        regime=regime._replace(population=population),
        lows=jnp.full_like(state.lows, jnp.inf),
    )


def _is_over(state: CmaState) -> jax.Array:
    """Whether a run has converged, diverged, failed, or taken its evaluations."""
    used = state.random.draws.astype(jnp.int32) - state.regime.started
    now, d = state.distribution, len(state.distribution.mean)
    n, eps = state.regime.population, jnp.finfo(state.lows.dtype).eps
    window = jnp.minimum(10 + 30 * d // n, len(state.lows))
    recent = jnp.arange(len(state.lows)) < window
    low = jnp.min(state.lows)
    spread = jnp.max(jnp.where(recent, state.lows, -jnp.inf)) - low
    settled = (now.generation >= window) & (spread <= 1e-12 + 2 * eps * jnp.abs(low))
    reach = now.step * jnp.max(now.scale * jnp.sqrt(now.covariance.variances()))
    longest = 100 + 50 * (d + 3) ** 2 / jnp.sqrt(n)
    return (
        settled
        | (reach < jnp.maximum(4 * eps, NARROW))
        | ~(reach < 1e4)
        | (now.generation > longest)
        | (used >= state.regime.limit)
        | jnp.isinf(state.lows[0])
    )


def _learn(space: Space, state: CmaState) -> CmaState:
    """The distribution and the options move to the better members."""
    now, n, capacity = state.distribution, state.regime.population, len(state.values)
    rates = rates_of(now, n, capacity)
    order = jnp.argsort(state.values)
    ordered = state.values[order]
    # A failed member earns nothing.
    weights = jnp.where(jnp.isfinite(ordered), rates.weights, jnp.minimum(rates.weights, 0))
    size = min(BLOCK, capacity)
    spare = -capacity % size
    order, weights = jnp.pad(order, (0, spare)), jnp.pad(weights, (0, spare))

    def add(block, carry):
        sums, chosen = carry
        members = lax.dynamic_slice(order, (block * size,), (size,))
        w = lax.dynamic_slice(weights, (block * size,), (size,))
        options = _options(space, state, members)
        chosen += share_of(options, jnp.maximum(w, 0), chosen.shape[1])
        return add_members(sums, now, _normals(space, state, members), w), chosen

    zero = no_sums(now), jnp.zeros_like(state.shares)
    sums, chosen = lax.fori_loop(0, (n + size - 1) // size, add, zero)
    flat = ordered[0] == ordered[n // 4 + 1]
    return state._replace(
        distribution=_with_least_deviation(space, next_distribution(now, rates, sums, flat)),
        shares=moved_shares(state.shares, chosen),
        lows=jnp.concatenate([ordered[:1], state.lows[:-1]]),
    )


def _with_least_deviation(space: Space, now: Distribution) -> Distribution:
    """Integers keep a deviation that reaches their neighbours, whatever the step."""
    if not np.any(space.kinds == ORDERED):
        return now
    _, width = _cell(space)
    deviation = now.step * jnp.sqrt(now.covariance.variances()) * width
    scale = jnp.maximum(1, LEAST_DEVIATION / jnp.maximum(deviation, 1e-30))
    whole = space.kinds == ORDERED
    return now._replace(
        mean=jnp.where(whole, jnp.clip(now.mean, 0, 1), now.mean),
        scale=jnp.where(whole, scale, now.scale),
    )


def _normals(space: Space, state: CmaState, members: jax.Array) -> jax.Array:
    """Standard normals (n, d) of members of this generation, the same at each call."""
    random, d = state.random, space.dimension
    draws = random.draws + members.astype(jnp.uint32)
    return jax.vmap(lambda row: normals(Random(random.seed, row), d))(draws)


def _options(space: Space, state: CmaState, members: jax.Array) -> jax.Array:
    """Options (n, d) of members; zeros if every coordinate has an order."""
    d = space.dimension
    if not np.any(space.kinds == UNORDERED):
        return jnp.zeros((len(members), d), jnp.int32)
    random = state.random
    draws = random.draws + members.astype(jnp.uint32)
    rows = jax.vmap(lambda row: words(Random(random.seed, row), d, start=d))(draws)
    return option_at(state.shares, to_unit(rows))


def _cell(space: Space) -> tuple[jax.Array, jax.Array]:
    """`space.cells` as arrays of JAX."""
    low, width = space.cells
    return jnp.asarray(low, float_dtype()), jnp.asarray(width, float_dtype())


def _to_units(space: Space, x: jax.Array) -> jax.Array:
    low, width = _cell(space)
    return (x - low) / width


def _points(space: Space, u: jax.Array, options: jax.Array) -> jax.Array:
    """Points of the space from units of the range. Bounds reflect."""
    x = space.from_unit(1 - jnp.abs(1 - u % 2))
    if not np.any(space.kinds == UNORDERED):
        return x
    chosen = (jnp.asarray(space.low) + options).astype(x.dtype)
    return space.clip(jnp.where(space.kinds == UNORDERED, chosen, x))
