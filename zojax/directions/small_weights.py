"""The weights of small magnitude only, as they were in the first step."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from zojax._checks import require_fraction, require_kind
from zojax._direction import Adaptive, Direction
from zojax._trees import PyTree
from zojax.directions.masked import masked
from zojax.directions.rademacher import rademacher

_HALVINGS = 40  # of the range of a threshold


class _Thresholds(NamedTuple):
    """Whether they were computed, and one for each leaf."""

    known: jax.Array
    of: PyTree


def small_weights(density: float = 0.2, direction: Direction | None = None) -> Adaptive:
    r""":math:`z = m \odot s` with :math:`m = [\,|w| \le t\,]`, the weights that are small now.

    The threshold t of each leaf selects a share `density` of its weights in the first step. The mask
    follows the weights and is never stored. The memory is one number a leaf. E zz' = I over the selected
    weights.

    Args:
      density: share of each leaf that moves, in (0, 1].
      direction: that is masked; `directions.rademacher()` by default.

    References:
      Liu et al., `Sparse MeZO <https://arxiv.org/abs/2402.15751>`_, 2024.

    >>> import jax.numpy as jnp, zojax
    >>> estimator = zojax.estimator(zojax.directions.small_weights(0.5))
    >>> loss = lambda x: jnp.sum(x**2)
    >>> grads = zojax.grad(loss, estimator)(0, jnp.array([0.1, 5.0, -0.2, 7.0]))
    >>> grads != 0
    Array([ True, False,  True, False], dtype=bool)
    """
    density = require_fraction("density", density)
    base = rademacher() if direction is None else direction
    require_kind("direction", base, Direction)

    return Adaptive(_init, partial(_of_step, base), partial(_begin, density))


def _init(like: PyTree) -> _Thresholds:
    zeros = jax.tree.map(lambda leaf: jnp.zeros([], jnp.float32), like)
    return _Thresholds(jnp.zeros([], jnp.bool_), zeros)


def _begin(density: float, memory: _Thresholds, key: jax.Array, params: PyTree) -> _Thresholds:
    del key

    def thresholds():
        return jax.tree.map(lambda w: _threshold(w, density), params)

    return _Thresholds(jnp.bool_(True), jax.lax.cond(memory.known, lambda: memory.of, thresholds))


def _of_step(base: Direction, memory: _Thresholds, params: PyTree) -> Direction:
    mask = jax.tree.map(lambda w, t: jnp.abs(w).astype(jnp.float32) <= t, params, memory.of)
    return masked(base, mask)


def _threshold(w: jax.Array, density: float) -> jax.Array:
    """The quantile of |w|, by bisection: a sort would copy the leaf."""
    w = w.astype(jnp.float32)
    wanted = max(1, round(density * w.size))

    def halve(_, bounds):
        low, high = bounds
        middle = (low + high) / 2
        enough = jnp.sum((w <= middle) & (w >= -middle)) >= wanted
        return jnp.where(enough, low, middle), jnp.where(enough, middle, high)

    bounds = -jnp.ones((), jnp.float32), jnp.maximum(jnp.max(w), -jnp.min(w))
    return jax.lax.fori_loop(0, _HALVINGS, halve, bounds)[1]
