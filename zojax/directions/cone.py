"""Directions in a cone around a momentum of past estimates."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from zojax import noise
from zojax._checks import require_kind, require_rate
from zojax._direction import Adaptive, Direction, Outcome
from zojax._sharding import full_like
from zojax._trees import PyTree, total_size
from zojax.directions.rademacher import rademacher


def cone(angle: float = 1.35, decay: float = 0.95, direction: Direction | None = None) -> Adaptive:
    r""":math:`z' = \cos\theta\,\sqrt d\, m / \|m\| + \sin\theta\, z`, with m a momentum of estimates.

    .. math::
        m \leftarrow \beta m + (1 - \beta)\, \hat g

    The memory is m, a copy of the parameters. While m is zero, z' is z. The target changes:
    :math:`E z'z'^\top` is :math:`\sin^2\theta\, I` and :math:`d \cos^2\theta` along m, so an estimate
    favours m by much. Its noise stays implicit in no operation: each leaf is made where it is read.

    Args:
      angle: theta, in radians, between z' and m.
      decay: beta.
      direction: of z; `directions.rademacher()` by default, whose length is exactly :math:`\sqrt d`.

    References:
      Behric et al., `ConMeZO <https://arxiv.org/abs/2511.02757>`_, 2025.

    >>> import jax.numpy as jnp, zojax
    >>> tx = zojax.zo_sgd(0.01, zojax.estimator(zojax.directions.cone()))
    >>> params = jnp.ones(3)
    >>> _, state = tx.update(None, tx.init(params), params, value_fn=lambda x: jnp.sum(x**2))
    >>> state.estimator_state.direction.shape
    (3,)
    """
    require_rate("angle", angle)
    require_rate("decay", decay)
    base = rademacher() if direction is None else direction
    require_kind("direction", base, Direction)

    of_step, learn = partial(_of_step, base, angle), partial(_learn, decay)
    return Adaptive(_zeros, of_step, learn=learn, max_directions=base.max_directions)


def _zeros(like):
    return jax.tree.map(lambda leaf: full_like(leaf, 0, leaf.dtype), like)


def _of_step(base: Direction, angle: float, memory: PyTree, params: PyTree) -> Direction:
    del params
    squares = [jnp.sum(jnp.square(m.astype(jnp.float32))) for m in jax.tree.leaves(memory)]
    norm = jnp.sqrt(sum(squares, start=jnp.float32(0)))
    has_mean = norm > 0
    across = jnp.where(has_mean, np.float32(math.sin(angle)), np.float32(1))
    along = np.float32(math.cos(angle)) / jnp.where(has_mean, norm, 1)

    def along_of(like):
        return along * np.float32(math.sqrt(total_size(like)))

    def draw(frame, index, like):
        drawn, weight = base.draw(frame, index, like), along_of(like)
        return jax.tree.map(
            lambda _, m, z: noise.MixedNoise(z, m, across, weight), like, memory, drawn
        )

    def combine(frame, coefficients, like):
        weight = (along_of(like) * jnp.sum(coefficients)).astype(jnp.float32)
        total = base.combine(frame, coefficients * across.astype(coefficients.dtype), like)
        return jax.tree.map(
            lambda t, m: t + (weight * m.astype(jnp.float32)).astype(t.dtype), total, memory
        )

    return base._replace(draw=draw, combine=combine)


def _learn(decay: float, memory: PyTree, outcome: Outcome) -> PyTree:
    return jax.tree.map(lambda m, g: decay * m + (1 - decay) * g, memory, outcome.grads)
