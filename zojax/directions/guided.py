"""Directions that favour the span of past estimates."""

import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from zojax import noise
from zojax._checks import require_count, require_fraction
from zojax._direction import Adaptive, Direction, Outcome
from zojax._sharding import full_like, sum_of_shards, typed_like
from zojax._trees import PyTree, total_size
from zojax.directions.normal import normal

UNUSED = np.uint32(2**32 - 2)  # an index that no direction has


class _Basis(NamedTuple):
    """Weights of the stored estimates in each of k vectors B with B' B = U U', and the rank of U."""

    weights: jax.Array
    rank: jax.Array


def guided(history: int = 10, alpha: float = 0.5) -> Adaptive:
    r"""Normals, stretched along the last k estimates.

    .. math::
        z = \sqrt\alpha\,\epsilon + \sqrt{(1-\alpha) d / k}\; U \epsilon'

    U has k orthonormal columns, which span the last k estimates of the gradient; with fewer than k
    different ones, k is their number, and without any z is normal. :math:`E zz^\top = \alpha I +
    (1-\alpha)\frac{d}{k} UU^\top`: the target changes, and its trace stays d. The memory is k copies of
    the parameters.

    Args:
      history: k, the number of estimates.
      alpha: in (0, 1], the share of the full space.

    References:
      Maheswaranathan et al., `Guided evolutionary strategies <https://arxiv.org/abs/1806.10230>`_, 2019.

    >>> import jax.numpy as jnp, zojax
    >>> tx = zojax.zo_sgd(0.01, zojax.estimator(zojax.directions.guided(4)))
    >>> params = jnp.ones(3)
    >>> _, state = tx.update(None, tx.init(params), params, value_fn=lambda x: jnp.sum(x**2))
    >>> state.estimator_state.direction.shape
    (4, 3)
    """
    history = require_count("history", history)
    alpha = require_fraction("alpha", alpha)

    return Adaptive(partial(_init, history), partial(_of_step, history, alpha), learn=_learn)


def _init(history: int, like: PyTree) -> PyTree:
    return jax.tree.map(lambda leaf: full_like(leaf, 0, leaf.dtype, history), like)


def _of_step(history: int, alpha: float, memory: PyTree, params: PyTree) -> Direction:
    del params
    return _direction(memory, _basis(memory, history), alpha)


def _learn(memory: PyTree, outcome: Outcome) -> PyTree:
    def shift(past, g):
        return jnp.concatenate([typed_like(g[None].astype(past.dtype), past), past[:-1]])

    return jax.tree.map(shift, memory, outcome.grads)


def _basis(memory: PyTree, k: int) -> _Basis:
    """The symmetric inverse root of the Gram matrix.

    Eigenvectors alone have the same span, but another sign after another rounding.
    """
    gram = _gram(k, memory)
    # Directions of equal scale: the last estimates may be much smaller than the first.
    scale = jnp.sqrt(jnp.diagonal(gram))
    scale = jnp.where(scale > 0, 1 / jnp.where(scale > 0, scale, 1), 0)
    values, vectors = jnp.linalg.eigh(scale[:, None] * gram * scale[None])
    independent = values > 1e-5
    root = jnp.where(independent, 1 / jnp.sqrt(jnp.where(independent, values, 1)), 0)
    inverse = jnp.dot(vectors * root, vectors.T, precision="highest")
    return _Basis(scale[:, None] * inverse, jnp.sum(independent).astype(jnp.float32))


def _gram(k: int, memory: PyTree) -> jax.Array:
    def products(past):
        rows = past.reshape(k, -1).astype(jnp.float32)
        return jnp.dot(rows, rows.T, precision="highest")

    parts = (sum_of_shards(products, past) for past in jax.tree.leaves(memory))
    return sum(parts, start=jnp.zeros((k, k), jnp.float32))


def _direction(memory: PyTree, basis: _Basis, alpha: float) -> Direction:
    base, has_span = normal(), basis.rank > 0
    across = jnp.where(has_span, np.float32(math.sqrt(alpha)), np.float32(1))

    def weights(frame, index, like):
        """Of the stored estimates, in direction `index`."""
        seed = noise.child_seeds(frame, UNUSED, 1)[0]
        row = jnp.asarray(index).astype(jnp.uint32)
        normals = noise.Normals(seed).rows(row, len(basis.weights))
        share = np.float32((1 - alpha) * total_size(like)) / jnp.maximum(basis.rank, 1)
        return jnp.sqrt(share) * jnp.dot(basis.weights, normals, precision="highest")

    def draw(frame, index, like):
        own = weights(frame, index, like)

        def mixed(leaf, past, z):
            return noise.MixedNoise(z, _mixture(own, past), across, jnp.float32(1))

        return jax.tree.map(mixed, like, memory, base.draw(frame, index, like))

    def combine(frame, coefficients, like):
        numbers = jnp.arange(coefficients.shape[0])
        each = jax.vmap(lambda i: weights(frame, i, like))(numbers).astype(coefficients.dtype)
        own = jnp.dot(coefficients, each, precision="highest")
        total = base.combine(frame, coefficients, like)
        return jax.tree.map(
            lambda leaf, past, x: across * x + _mixture(own, past).astype(x.dtype),
            *(like, memory, total),
        )

    return base._replace(draw=draw, combine=combine)


def _mixture(weights: jax.Array, past: jax.Array) -> jax.Array:
    """The weighted sum over the first axis, written out: each reader makes the entries that it reads."""
    return sum(w * x.astype(w.dtype) for w, x in zip(weights, past, strict=True))
