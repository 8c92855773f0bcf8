"""One generation of CMA-ES: the distribution moves to the better members."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from zojax._numerics import float_dtype
from zojax.search.algorithms._covariance import Diagonal, Full

WHOLE = 100  # most coordinates with a whole covariance


class Distribution(NamedTuple):
    """N(mean, step^2 scale C scale) in units of the range, and its paths."""

    mean: jax.Array  # (d,)
    step: jax.Array
    scale: jax.Array  # (d,), 1 except for integers with small deviations
    covariance: Any  # Full or Diagonal
    step_path: jax.Array  # (d,)
    shape_path: jax.Array  # (d,)
    generation: jax.Array  # generations so far


class Rates(NamedTuple):
    """Weights by rank and learning rates of a population (Hansen 2016, table 1)."""

    weights: jax.Array  # (capacity,), best first; the positive ones add up to 1
    mass: jax.Array  # 1 / sum of the squares of the positive ones
    step: jax.Array
    damping: jax.Array
    path: jax.Array
    one: jax.Array  # of the path
    rank: jax.Array  # of the members


class Sums(NamedTuple):
    """Weighted sums over the members of a generation."""

    normals: jax.Array  # sum of w z over good members, (d,)
    squares: Any  # sum of w y y' over all members
    weights: jax.Array  # sum of all weights


def first_distribution(mean: jax.Array, step) -> Distribution:
    d, dtype = len(mean), mean.dtype
    return Distribution(
        mean=mean,
        step=jnp.asarray(step, dtype),
        scale=jnp.ones(d, dtype),
        covariance=(Full if d <= WHOLE else Diagonal).identity(d, dtype),
        step_path=jnp.zeros(d, dtype),
        shape_path=jnp.zeros(d, dtype),
        generation=jnp.int32(0),
    )


def place(now: Distribution, z: jax.Array) -> jax.Array:
    """Members (n, d) in units of the range, from standard normals."""
    return now.mean + now.step * now.scale * now.covariance.stretch(z)


def rates_of(now: Distribution, n: jax.Array, capacity: int) -> Rates:
    """The rates of a population of n <= capacity members."""
    d = len(now.mean)
    factor = now.covariance.learning(d)
    position = jnp.arange(1, capacity + 1, dtype=float_dtype())
    raw = jnp.where(position <= n, jnp.log((n + 1) / 2) - jnp.log(position), 0.0)
    good, bad = jnp.maximum(raw, 0), jnp.maximum(-raw, 0)
    mass = jnp.sum(good) ** 2 / jnp.sum(good**2)
    bad_mass = jnp.sum(bad) ** 2 / jnp.sum(bad**2)
    one = jnp.minimum(factor * 2 / ((d + 1.3) ** 2 + mass), 0.5)
    rank = factor * 2 * (0.25 + mass + 1 / mass - 2) / ((d + 2) ** 2 + mass)
    rank = jnp.minimum(1 - one, rank)
    limits = 1 + one / rank, 1 + 2 * bad_mass / (mass + 2), (1 - one - rank) / (d * rank)
    against = jnp.minimum(jnp.minimum(limits[0], limits[1]), limits[2])
    step = (mass + 2) / (d + mass + 5)
    return Rates(
        weights=good / jnp.sum(good) - against * bad / jnp.sum(bad),
        mass=mass,
        step=step,
        damping=1 + 2 * jnp.maximum(0, jnp.sqrt((mass - 1) / (d + 1)) - 1) + step,
        path=(4 + mass / d) / (d + 4 + 2 * mass / d),
        one=one,
        rank=rank,
    )


def no_sums(now: Distribution) -> Sums:
    zero = jnp.zeros_like(now.step)
    return Sums(jnp.zeros_like(now.mean), now.covariance.squares(zero[None], now.mean[None]), zero)


def add_members(sums: Sums, now: Distribution, z: jax.Array, weights: jax.Array) -> Sums:
    """The sums with the normals (n, d) of more members. A bad member counts at the average length."""
    lengths = jnp.maximum(jnp.sum(z * z, axis=1), 1e-12)
    even = jnp.where(weights < 0, weights * z.shape[1] / lengths, weights)
    return Sums(
        sums.normals + jnp.maximum(weights, 0) @ z,
        jax.tree.map(
            jnp.add, sums.squares, now.covariance.squares(even, now.covariance.stretch(z))
        ),
        sums.weights + jnp.sum(weights),
    )


def next_distribution(now: Distribution, rates: Rates, sums: Sums, flat: jax.Array) -> Distribution:
    """The distribution after a generation. Equal values (flat) let the step grow."""
    d = len(now.mean)
    shift = now.covariance.stretch(sums.normals)
    mean_length = np.sqrt(d) * (1 - 1 / (4 * d) + 1 / (21 * d * d))  # of a standard normal
    c, p, t = rates.step, rates.path, now.generation + 1
    step_path = (1 - c) * now.step_path
    step_path += jnp.sqrt(c * (2 - c) * rates.mass) * sums.normals
    length = jnp.sqrt(step_path @ step_path)
    steady = length / jnp.sqrt(1 - (1 - c) ** (2 * t)) < (1.4 + 2 / (d + 1)) * mean_length
    shape_path = (1 - p) * now.shape_path
    shape_path += jnp.where(steady, jnp.sqrt(p * (2 - p) * rates.mass), 0.0) * shift
    stalled = jnp.where(steady, 0.0, rates.one * p * (2 - p))
    covariance = now.covariance.updated(
        1 + stalled - rates.one - rates.rank * sums.weights,
        now.covariance.squares(rates.one[None], shape_path[None]) + rates.rank * sums.squares,
    )
    # A new root every few generations cost little beside the samples.
    every = jnp.maximum(1, 1 / (10 * d * (rates.one + rates.rank))).astype(jnp.int32)
    covariance = jax.lax.cond(t % every == 0, lambda c: c.rooted(), lambda c: c, covariance)
    growth = jnp.minimum(1, c / rates.damping * (length / mean_length - 1))
    return now._replace(
        mean=now.mean + now.step * now.scale * shift,
        step=now.step * jnp.exp(growth + jnp.where(flat, 0.2, 0.0)),
        covariance=covariance,
        step_path=step_path,
        shape_path=shape_path,
        generation=t,
    )
