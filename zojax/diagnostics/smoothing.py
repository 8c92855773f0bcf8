"""Central differences over a range of mu, and the mu whose differences mean most."""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from zojax import implicit
from zojax._call import PROGRAMS, compiled_outside
from zojax._checks import require_count
from zojax._direction import Direction
from zojax._keys import as_key
from zojax._scalars import traced_scalar
from zojax._trees import PyTree, split_structure
from zojax.diagnostics.noise_level import noise_level
from zojax.directions import rademacher

RADII = tuple(10.0 ** (e / 2) for e in range(-12, 3))  # 1e-6 to 10
LINE = 8  # points of the line that shows the noise
SIGNS = rademacher()  # the default; one object, so that its programs are found again
CERTAIN = 4.0  # differences beyond so many of their variances are bias


class Sweep(NamedTuple):
    """Values on both sides of x, along a few directions, for each radius.

    Attributes:
      mu: (radii,), increasing.
      value: of the loss at x.
      values: (radii, directions, 2) float64, at x + mu z and x - mu z.
      noise: the standard deviation of a value; see `noise_level`.
      error: (radii,) the estimated error of a difference: noise and bias. inf where the loss looks flat or
        is not finite.
    """

    mu: np.ndarray
    value: float
    values: np.ndarray
    noise: float
    error: np.ndarray

    @property
    def slopes(self) -> np.ndarray:
        """(radii, directions) central differences, nan where a value is not finite."""
        return _differences(self.values, self.mu)

    @property
    def best(self) -> int:
        """The radius with the least error. Of equal errors, the largest."""
        if not np.isfinite(self.error).any():
            return int(np.argmax(np.sum(self.slopes != 0, axis=1)))
        return int(np.flatnonzero(self.error <= 1.1 * self.error.min())[-1])


def sweep(
    loss: Callable[..., Any],
    params: PyTree,
    *args: Any,
    key: int | jax.Array = 0,
    num_directions: int = 8,
    direction: Direction | None = None,
    radii: tuple[float, ...] = RADII,
    **kwargs: Any,
) -> Sweep:
    """Evaluates the loss on both sides of `params`, for each radius.

    Takes 2 * radii * num_directions evaluations, 240 by default, one at a time: the memory of inference.

    Args:
      loss: (params, *args, **kwargs) -> scalar, traceable.
      params: a pytree of arrays.
      key: of the directions.
      num_directions: directions, at least 2.
      direction: `directions.rademacher()` by default.
      radii: at least 3, increasing.

    Raises:
      ValueError: too few directions or radii, or a loss that is not finite at `params`.
    """
    n = require_count("num_directions", num_directions)
    if n < 2 or len(radii) < 3 or list(radii) != sorted(set(radii)):
        raise ValueError(
            f"a sweep needs 2 directions and 3 increasing radii, got {n} and {radii!r}."
        )
    direction = SIGNS if direction is None else direction
    run, key, mu = _program_of(direction, n), as_key(key), np.asarray(radii, np.float64)

    def values_at(offsets: np.ndarray) -> np.ndarray:  # (offsets, directions)
        table = run(loss, key, params, args, kwargs, offsets.astype(np.float32))
        return np.asarray(table, np.float64)

    table = values_at(np.concatenate([[0.0], *np.stack([mu, -mu], 1)]))
    value, values = float(table[0, 0]), table[1:].reshape(len(mu), 2, n).transpose(0, 2, 1)
    if not np.isfinite(value):
        raise ValueError(f"the loss at params is {value}; look at it where it is finite.")
    noise = _noise(values, mu, values_at)
    return Sweep(mu, value, values, noise, _errors(values, mu, noise))


def choose_mu(loss: Callable[..., Any], params: PyTree, *args: Any, **kwargs: Any) -> float:
    """The radius whose central differences have the least error: noise of values, and bias.

    Takes the arguments of `sweep`.

    >>> import jax.numpy as jnp
    >>> from zojax import diagnostics
    >>> mu = diagnostics.choose_mu(lambda x: jnp.sum(jnp.cos(x)), jnp.ones(100))
    >>> 1e-3 < mu < 1
    True
    """
    found = sweep(loss, params, *args, **kwargs)
    return float(found.mu[found.best])


@lru_cache(PROGRAMS)
def _program_of(direction: Direction, n: int) -> Callable:
    """Kept, so that a loss that is looked at again is not compiled again."""
    return compiled_outside(partial(_table, direction, n))


def _table(direction: Direction, n: int, loss, key, params, args, kwargs, offsets) -> jax.Array:
    """The loss at x + offset * z, of shape (offsets, directions)."""
    like = split_structure(params).tree()
    frame = direction.frame(key, n, like)

    def value(offset, index):
        noise = direction.draw(frame, index, like)
        return traced_scalar(implicit.evaluate(loss, params, noise, offset, *args, **kwargs))

    numbers = jnp.arange(n)
    return jax.lax.map(lambda o: jax.lax.map(lambda i: value(o, i), numbers), offsets)


def _noise(values: np.ndarray, mu: np.ndarray, values_at: Callable) -> float:
    """The noise of a value: of a short line, and the least step between two values."""
    gaps = 2 * mu[:, None] * np.abs(_differences(values, mu))
    differs = np.mean(gaps > 0, axis=1) >= 0.5
    if not differs.any():
        return 0.0
    line = values_at(float(mu[np.argmax(differs)]) * (1 + np.arange(LINE, dtype=np.float32)))
    levels = [noise_level(row) for row in line.T if np.isfinite(row).all()]
    known = [level for level in levels if np.isfinite(level)]
    step = float(np.min(gaps[gaps > 0])) / np.sqrt(6)  # uniform rounding on both sides
    return max(float(np.median(known)) if known else 0.0, step)


def _errors(values: np.ndarray, mu: np.ndarray, noise: float) -> np.ndarray:
    """The error of a difference at each radius: sqrt(noise^2 / (2 mu^2) + bias^2)."""
    slopes = _differences(values, mu)
    apart = np.mean((slopes[:, None] - slopes) ** 2, axis=2)
    random = noise**2 / (2 * mu**2)
    # Smaller radii have less bias and more noise, so what stands out of the noise of both is bias.
    beyond = apart - CERTAIN * (random[:, None] + random)
    bias = np.array([np.fmax.reduce(beyond[j, :j], initial=0) for j in range(len(mu))])
    # Bias grows with mu^2, so the difference to the next radius is larger than the bias itself.
    bias[:-1] = np.fmin(bias[:-1], np.diagonal(apart, 1))
    flat = np.mean(slopes == 0, axis=1) > 0.5
    finite = np.isfinite(values).all(axis=(1, 2))
    return np.where(finite & ~flat, np.sqrt(random + bias), np.inf)


def _differences(values: np.ndarray, mu: np.ndarray) -> np.ndarray:
    """Central differences, nan where a value is not finite."""
    finite = np.where(np.isfinite(values), values, np.nan)
    return (finite[..., 0] - finite[..., 1]) / (2 * mu[:, None])
