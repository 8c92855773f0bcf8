"""A Gaussian process with a quadratic trend, whose parameters maximize the posterior density.

    k(a, b) = (1 + s + s^2 / 3) exp(-s) + t (1 + a'b)^2,    s^2 = 5 |a - b|^2

a and b are rows of features divided by lengths, one length a coordinate. A coordinate is a feature in units
of its range. One without order has an indicator for each option, so that two options have distance 1. The
first term is the Matérn kernel. The second one holds all quadratic functions.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from zojax._numerics import float_dtype
from zojax.search.spaces import UNORDERED, Space

RATE, DECAYS = 0.15, (0.8, 0.95)  # of Adam
LENGTH, TREND, NOISE = 0.5, 0.03, 1e-4  # medians of the prior; lengths also grow with the root of d
SPREADS = 1.0, 2.0, 1.0  # deviations of their logarithms


class Fit(NamedTuple):
    """Logarithms of d lengths, of the trend's weight t and of the noise, (d + 2,), with Adam's averages."""

    logs: jax.Array
    mean: jax.Array
    square: jax.Array


class Data(NamedTuple):
    """Features (n, features) and values (n,), with 0 for rows that are not known yet."""

    rows: jax.Array
    values: jax.Array
    known: jax.Array


class Posterior(NamedTuple):
    """The process, given its data."""

    rows: jax.Array  # (n, features), divided by lengths
    known: jax.Array
    scales: jax.Array  # (features,) 1 / length
    trend: jax.Array
    noise: jax.Array  # its variance, in units of the process
    inverse: jax.Array  # (n, n), of the Cholesky factor; 0 for unknown rows
    weights: jax.Array  # (n,)
    variance: jax.Array  # of the process


def features(space: Space, x: jax.Array) -> jax.Array:
    """(n, features) of points (n, d)."""
    u = space.to_unit(x)
    unordered = np.flatnonzero(space.kinds == UNORDERED)
    columns = [u[:, space.kinds != UNORDERED]] if len(unordered) else [u]
    for k in unordered:
        options = space.low[k] + np.arange(space.options[k])
        columns.append((x[:, k : k + 1] == options) / np.sqrt(2))
    return jnp.concatenate(columns, axis=1).astype(u.dtype)


def first_fit(space: Space) -> Fit:
    """The mode of the prior."""
    logs = jnp.asarray(_prior(space.dimension)[0], float_dtype())
    return Fit(logs, jnp.zeros_like(logs), jnp.zeros_like(logs))


def refined(space: Space, fit: Fit, data: Data, steps) -> Fit:
    """The fit after some steps of Adam on the logarithm of the posterior density."""

    def step(_, fit: Fit) -> Fit:
        gradient = _gradient(space, fit.logs, data)
        mean = DECAYS[0] * fit.mean + (1 - DECAYS[0]) * gradient
        square = DECAYS[1] * fit.square + (1 - DECAYS[1]) * gradient**2
        new = Fit(fit.logs + RATE * mean / (jnp.sqrt(square) + 1e-3), mean, square)
        sound = jnp.all(jnp.isfinite(new.logs))
        return jax.tree.map(lambda a, b: jnp.where(sound, a, b), new, first_fit(space))

    return lax.fori_loop(0, steps, step, fit)


def posterior(space: Space, logs: jax.Array, data: Data) -> Posterior:
    """The process with these parameters, given the data."""
    return _factored(space, logs, data)[0]


def predicted(process: Posterior, rows: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Mean and variance (m,) at rows of features (m, features)."""
    rows = rows * process.scales
    k = _kernel(rows, process.rows, process.trend)[0]
    explained = jnp.sum((k @ process.inverse.T) ** 2, axis=1)
    total = 1 + process.trend * (1 + jnp.sum(rows * rows, axis=1)) ** 2
    return k @ process.weights, process.variance * jnp.maximum(total - explained, 1e-6)


def _prior(d: int) -> tuple[np.ndarray, np.ndarray]:
    """Means and deviations (d + 2,) of the logarithms."""
    means = np.log([LENGTH * np.sqrt(d)] * d + [TREND, NOISE])
    return means, np.array([SPREADS[0]] * d + [*SPREADS[1:]])


def _owners(space: Space) -> np.ndarray:
    """(d, features): 1 at the features of each coordinate."""
    unordered = np.flatnonzero(space.kinds == UNORDERED)
    repeated = np.repeat(unordered, space.options[unordered])
    owners = np.append(np.flatnonzero(space.kinds != UNORDERED), repeated)
    return (np.arange(space.dimension)[:, None] == owners).astype(float_dtype())


def _kernel(a, b, trend):
    """(k, -2 times the derivative of the first term by the squared distance, 1 + a'b), (n, m) each."""
    products = a @ b.T
    squares = 5 * jnp.sum(a * a, axis=1)[:, None] + 5 * jnp.sum(b * b, axis=1) - 10 * products
    squares = jnp.maximum(squares, 0)
    s = jnp.sqrt(squares)
    decay, near, linear = jnp.exp(-s), 1 + s, 1 + products
    return (near + squares / 3) * decay + trend * linear**2, 5 / 3 * near * decay, linear


def _factored(space: Space, logs, data: Data):
    """(the posterior, the other results of `_kernel` at the known rows)."""
    scales = jnp.exp(-logs[:-2]) @ _owners(space)
    rows, trend, n = data.rows * scales, jnp.exp(logs[-2]), len(data.rows)
    kernel, slopes, linear = _kernel(rows, rows, trend)
    kernel = jnp.where(data.known[:, None] & data.known, kernel, 0)
    # Rounding needs more on the diagonal than the noise of a smooth function.
    noise = jnp.exp(logs[-1]) + 100 * jnp.finfo(rows.dtype).eps
    kernel += jnp.diag(jnp.where(data.known, noise, 1))
    factor = lax.linalg.cholesky(kernel, symmetrize_input=False)
    identity = jnp.eye(n, dtype=rows.dtype)
    inverse = lax.linalg.triangular_solve(factor, identity, left_side=True, lower=True)
    inverse = jnp.where(data.known, inverse, 0)
    weights = (inverse @ data.values) @ inverse
    variance = jnp.maximum(data.values @ weights / jnp.maximum(jnp.sum(data.known), 1), 1e-6)
    process = Posterior(rows, data.known, scales, trend, noise, inverse, weights, variance)
    return process, slopes, linear


def _gradient(space: Space, logs, data: Data) -> jax.Array:
    """The derivative of the logarithm of the posterior density by the logarithms, (d + 2,)."""
    process, slopes, linear = _factored(space, logs, data)
    a, w = process.rows, process.weights
    pull = w[:, None] * w / process.variance - process.inverse.T @ process.inverse
    by_slope, by_linear = pull * slopes, pull * linear
    by_feature = jnp.sum(by_slope, axis=1)[:, None] * a * a - a * (by_slope @ a)
    by_feature -= 2 * process.trend * a * (by_linear @ a)
    by_trend = 0.5 * process.trend * jnp.sum(by_linear * linear)
    by_noise = 0.5 * process.noise * jnp.trace(pull)
    by_length = _owners(space) @ jnp.sum(by_feature, axis=0)
    means, deviations = _prior(space.dimension)
    gradient = jnp.concatenate([by_length, jnp.stack([by_trend, by_noise])])
    return gradient - ((logs - means) / deviations**2).astype(logs.dtype)
