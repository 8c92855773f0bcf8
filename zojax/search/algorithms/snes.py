"""Separable natural evolution, for noisy functions: a distribution with one scale per coordinate."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from zojax._checks import require_count
from zojax._numerics import float_dtype, mean_of
from zojax.noise import standard_normal
from zojax.search._later import changed_if
from zojax.search._random import Random, make_random, to_unit, words
from zojax.search.algorithms._algorithm import Algorithm
from zojax.search.algorithms._arrays import set_row
from zojax.search.algorithms._shares import first_shares, moved_shares, option_at, share_of
from zojax.search.algorithms._toolkit import (
    bounds_of,
    keep_best,
    moved_if,
    recommended,
    reused,
    sequential,
    span_of,
)
from zojax.search.spaces import UNORDERED, Space

GENERATIONS = 128  # of a budget, by default


class SnesState(NamedTuple):
    """The distribution, the values of this generation, and the recommendation."""

    seed: jax.Array
    generation: jax.Array
    told: jax.Array  # evaluated members of this generation
    mean: jax.Array  # (d,), in units of the range: 0 to 1
    scale: jax.Array  # (d,)
    shares: jax.Array  # (d, options) probabilities, for coordinates without order
    values: jax.Array  # (population,)
    x: jax.Array  # the recommendation: the mean, as a point
    value: jax.Array  # the average value of the last generation


@reused
def snes(population: int | None = None) -> Algorithm:
    """Separable natural evolution strategy. Its answer is the mean.

        x_i = m + s z_i,   m <- m + s sum_i u_i z_i,   s <- s exp(eta / 2 sum_i (u_i - 1/n) (z_i^2 - 1))

    The population has n members in mirrored pairs, with utilities u by rank, and
    eta = (3 + ln d) / (5 sqrt d). Every evaluation moves every coordinate. So the noise averages out, and
    the answer is not the luckiest sample. Integers are rounded. A coordinate without order has a
    probability for each option, which moves towards the utilities by a tenth. `best` returns the mean with
    the average value of the last population, which exceeds the mean's own value. `minimize` evaluates the
    mean again.

    Args:
      population: n, even. By default, budget / 128, at least 4 + 3 ln d and at most 1024.

    Raises:
      ValueError: a population that is odd or below 1.

    References:
      Schaul, Glasmachers and Schmidhuber, `High dimensions and heavy tails for natural evolution strategies
      <https://doi.org/10.1145/2001576.2001692>`_, GECCO 2011.

    >>> from zojax import search
    >>> import jax
    >>> def noisy(x, key):
    ...     return jnp.sum((x - 0.3) ** 2) + 0.1 * jax.random.normal(key)
    >>> found = search.minimize(noisy, search.uniform(-1, 1, (5,)), search.snes(), budget=4000, key=0,
    ...                         with_key=True)
    >>> bool(jnp.sum((found.best - 0.3) ** 2) < 0.02)
    True
    """
    if population is not None:
        population = require_count("population", population)
        if population % 2:
            raise ValueError(f"population must be even, for mirrored pairs, got {population}.")

    def init(key, space: Space, budget: int) -> SnesState:
        d, dtype = space.dimension, float_dtype()
        least = 4 + 3 * np.log(d)
        n = population or 2 * int(np.ceil(np.clip(budget / GENERATIONS, least, 1024) / 2))
        low, _ = bounds_of(space)
        span = span_of(space)
        mean = (space.sample(key, 1)[0].astype(dtype) - low) / span
        return SnesState(
            seed=make_random(key).seed,
            generation=jnp.uint32(0),
            told=jnp.int32(0),
            mean=mean,
            scale=jnp.full(d, 0.3, dtype),
            shares=first_shares(space, dtype),
            values=jnp.full(n, jnp.inf, dtype),
            x=space.clip(low + span * mean),
            value=jnp.asarray(np.inf, dtype),
        )

    return Algorithm(init, _ask, sequential(_tell), recommended, _inject, repeats_points=True)


def _ask(space: Space, state: SnesState):
    z, options = _draws(space, state, state.told)
    return _point(space, state.mean + state.scale * z, options)[None], state


def _tell(space: Space, state: SnesState, x, value) -> SnesState:
    # Keeps the best point until the first generation is complete.
    state = keep_best(state, x, jnp.where(state.generation == 0, value, jnp.inf))
    state = state._replace(values=set_row(state.values, state.told, value), told=state.told + 1)
    complete = state.told == len(state.values)
    return changed_if(complete, partial(_next_generation, space), state)


def _next_generation(space: Space, state: SnesState) -> SnesState:
    n, d = len(state.values), space.dimension
    ranks = jnp.argsort(jnp.argsort(state.values))
    raw = np.maximum(0, np.log(n / 2 + 1) - np.log(np.arange(1, n + 1)))
    # Failed members have no weight.
    utility = jnp.where(jnp.isfinite(state.values), jnp.asarray(raw / raw.sum())[ranks], 0.0)
    z, options = jax.vmap(lambda i: _draws(space, state, i))(jnp.arange(n))
    eta = (3 + np.log(d)) / (5 * np.sqrt(d))
    centred = utility - jnp.mean(utility)
    mean = jnp.clip(state.mean + state.scale * (utility @ z), 0, 1)
    scale = state.scale * jnp.exp(eta / 2 * (centred @ (z * z - 1)))
    finite = jnp.isfinite(state.values)
    average = mean_of(state.values[:, None], finite)
    state = state._replace(
        generation=state.generation + np.uint32(1),
        told=jnp.int32(0),
        mean=mean,
        scale=jnp.clip(scale, 1e-6, 0.5),
        shares=moved_shares(state.shares, share_of(options, utility, state.shares.shape[1])),
        value=jnp.where(jnp.any(finite), average, state.value),
    )
    return state._replace(x=_point(space, mean, jnp.argmax(state.shares, axis=1)))


def _draws(space, state, member):
    """The normals (d,) of a member, mirrored in pairs, and its options (d,)."""
    d, n = space.dimension, len(state.values)
    random = Random(state.seed, state.generation * np.uint32(2 * n))

    def row(number):
        return words(random._replace(draws=random.draws + number.astype(jnp.uint32)), d)

    sign = 1.0 - 2.0 * (member & 1)
    z = (sign * standard_normal(row(member >> 1))).astype(float_dtype())
    if not np.any(space.kinds == UNORDERED):
        return z, jnp.zeros(d, jnp.int32)
    return z, option_at(state.shares, to_unit(row(n + member)))


def _point(space: Space, u: jax.Array, options: jax.Array) -> jax.Array:
    """The point at u in units of the range, with options for coordinates without order."""
    low, _ = bounds_of(space)
    x = low + span_of(space) * u
    return space.clip(jnp.where(space.kinds == UNORDERED, low + options, x))


def _inject(space, state: SnesState, x, value) -> SnesState:
    """The search starts around the best injected point."""
    mean = (x - bounds_of(space)[0]) / span_of(space)
    first = (value < state.value) & (state.generation == 0)
    state = state._replace(mean=jnp.where(first, mean, state.mean))
    return moved_if(first, state, x, value)
