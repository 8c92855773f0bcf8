"""A Gaussian process: a Matérn kernel with one length per coordinate, fitted to its likelihood.

    k(a, b) = (1 + s + s^2 / 3) exp(-s),    s^2 = 5 sum_k (a_k - b_k)^2 / l_k^2

Coordinates are in units of the range. Two different options of a coordinate without order have distance 1.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from zojax._numerics import float_dtype
from zojax.search.spaces import UNORDERED, Space

RATE, DECAY = 0.15, (0.8, 0.95)  # of Adam
SPREAD = 1.0  # of the prior of a logarithm: of a length, of the noise
NOISE = 1e-4  # variance of the values' noise, in units of the process, by the prior


class Fit(NamedTuple):
    """Logarithms of d lengths and of the noise, (d + 1,), and the averages of Adam."""

    logs: jax.Array
    mean: jax.Array
    square: jax.Array


class Posterior(NamedTuple):
    """The process given n values; rows without a value are unknown."""

    rows: jax.Array  # (n, features), scaled by the lengths
    known: jax.Array  # (n,)
    inverse: jax.Array  # (n, n), of the Cholesky factor
    weights: jax.Array  # (n,)
    variance: jax.Array  # of the process
    noise: jax.Array  # in units of it


def first_fit(space: Space) -> Fit:
    """The mean of the prior."""
    logs = jnp.asarray(_prior(space.dimension), float_dtype())
    return Fit(logs, jnp.zeros_like(logs), jnp.zeros_like(logs))


def _prior(d: int) -> np.ndarray:
    # Distances grow with the square root of d, and so do typical lengths.
    return np.append(np.full(d, np.log(0.5 * np.sqrt(d))), np.log(NOISE))


def features(space: Space, x: jax.Array) -> jax.Array:
    """Rows (n, features) of points (n, d): units of the range, and indicators of options."""
    u = space.to_unit(x)
    if not np.any(space.kinds == UNORDERED):
        return u
    columns = [u[:, space.kinds != UNORDERED]]
    for k in np.flatnonzero(space.kinds == UNORDERED):
        options = np.arange(space.low[k], space.high[k] + 1)
        columns.append((x[:, k : k + 1] == options) / np.sqrt(2))
    return jnp.concatenate(columns, axis=1).astype(u.dtype)


def _owners(space: Space) -> np.ndarray:
    """(d, features): 1 at the features of each coordinate."""
    unordered = np.flatnonzero(space.kinds == UNORDERED)
    counts = (space.high - space.low + 1)[unordered].astype(int)
    owners = np.append(np.flatnonzero(space.kinds != UNORDERED), np.repeat(unordered, counts))
    return (np.arange(space.dimension)[:, None] == owners).astype(float_dtype())


def refined(space: Space, fit: Fit, rows, known, values, steps) -> Fit:
    """The fit after some steps of Adam on the logarithm of the posterior density."""
    owners = _owners(space)

    def step(i, fit: Fit) -> Fit:
        gradient = _gradient(owners, fit.logs, rows, known, values)
        mean = DECAY[0] * fit.mean + (1 - DECAY[0]) * gradient
        square = DECAY[1] * fit.square + (1 - DECAY[1]) * gradient**2
        logs = fit.logs + RATE * mean / (jnp.sqrt(square) + 1e-3)
        new = Fit(logs, mean, square)
        sound = jnp.all(jnp.isfinite(logs))
        return jax.tree.map(lambda a, b: jnp.where(sound, a, b), new, first_fit(space))

    return lax.fori_loop(0, steps, step, fit)


def posterior(space: Space, fit: Fit, rows, known, values) -> Posterior:
    """The process given rows (n, features) and standardized values (n,)."""
    return _factored(_owners(space), fit.logs, rows, known, values)[0]


def predicted(process: Posterior, rows: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Mean and variance (m,) of the process at scaled rows (m, features)."""
    k = jnp.where(process.known, _kernel(rows, process.rows)[0], 0)
    explained = jnp.sum((k @ process.inverse.T) ** 2, axis=1)
    return k @ process.weights, process.variance * jnp.maximum(1 - explained, 1e-6)


def scaled(space: Space, fit: Fit, rows: jax.Array) -> jax.Array:
    """Rows in units of the lengths."""
    return rows * (jnp.exp(-fit.logs[:-1]) @ _owners(space))


def _factored(owners, logs, rows, known, values):
    """(the posterior, the slopes of its kernel)."""
    rows = rows * (jnp.exp(-logs[:-1]) @ owners)
    kernel, slopes = _kernel(rows, rows)
    both = known[:, None] & known
    # Rounding needs more on the diagonal than the noise of a smooth function.
    noise = jnp.exp(logs[-1]) + 100 * jnp.finfo(rows.dtype).eps
    n = len(rows)
    diagonal = jnp.where(known, 1 + noise, 1)
    matrix = jnp.where(jnp.eye(n, dtype=bool), diagonal, jnp.where(both, kernel, 0))
    factor = lax.linalg.cholesky(matrix, symmetrize_input=False)
    inverse = lax.linalg.triangular_solve(
        factor, jnp.eye(n, dtype=rows.dtype), left_side=True, lower=True
    )
    weights = (inverse @ values) @ inverse
    variance = values @ weights / jnp.maximum(jnp.sum(known), 1)
    variance = jnp.maximum(variance, 1e-6)
    return Posterior(rows, known, inverse, weights, variance, noise), jnp.where(both, slopes, 0)


def _kernel(a, b):
    """The kernel (n, m) of scaled rows, and -2 times its derivative by the squared distance."""
    squares = jnp.sum(a * a, axis=1)[:, None] + jnp.sum(b * b, axis=1) - 2 * (a @ b.T)
    s = jnp.sqrt(5 * jnp.maximum(squares, 0))
    decay = jnp.exp(-s)
    slope = (1 + s) * decay
    return slope + s * s / 3 * decay, 5 / 3 * slope


def _gradient(owners, logs, rows, known, values):
    """The derivative of the logarithm of the posterior density by the logarithms, (d + 1,)."""
    process, slopes = _factored(owners, logs, rows, known, values)
    a, w = process.rows, process.weights
    outer = w[:, None] * w / process.variance - process.inverse.T @ process.inverse
    pulls = outer * slopes
    by_feature = jnp.sum(jnp.sum(pulls, axis=1)[:, None] * a * a - a * (pulls @ a), axis=0)
    by_noise = 0.5 * process.noise * jnp.sum(jnp.where(known, jnp.diagonal(outer), 0))
    prior = (logs - _prior(len(owners)).astype(a.dtype)) / SPREAD**2
    return jnp.append(owners @ by_feature, by_noise) - prior
