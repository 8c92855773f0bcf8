"""Uniform on the sphere of radius sqrt(d): a normal direction over all leaves, then rescaled."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from zojax._direction import Direction
from zojax._trees import PyTree, total_size
from zojax.directions._combine import accumulate
from zojax.directions.normal import normal


def sphere() -> Direction:
    r"""Uniform on the sphere of radius :math:`\sqrt d` in the space of all perturbed coordinates.

    One central difference on a quadratic has
    :math:`\mathrm{Cov}(\hat g) = \frac{d}{d+2}(\|g\|^2 I + 2gg^\top) - gg^\top`, of trace
    :math:`(d-1)\|g\|^2`. The radius needs one more pass over the noise than `normal`.

    Returns:
      A `Direction`; z has the shape of each float leaf.

    References:
      Flaxman, Kalai and McMahan, `Online convex optimization in the bandit setting
      <https://arxiv.org/abs/cs/0408007>`_, 2005.

    >>> import jax, jax.numpy as jnp
    >>> from zojax import directions
    >>> like = jax.ShapeDtypeStruct((50,), jnp.float32)
    >>> direction = directions.sphere()
    >>> z = direction.draw(direction.frame(jax.random.key(0), 1, like), 0, like).dense()
    >>> bool(abs(jnp.sum(z**2) - 50) < 1e-3)
    True
    """
    gaussian = normal()
    draw = partial(_draw, gaussian)
    return Direction(partial(_frame, gaussian), draw, accumulate(draw))


def _frame(gaussian: Direction, key: jax.Array, num_directions: int, like: PyTree):
    """The frame of the normal directions, and what each is multiplied by."""
    frame = gaussian.frame(key, num_directions, like)

    def scale(index):
        noise = gaussian.draw(frame, index, like)
        squares = jax.tree.map(lambda _, z: jnp.sum(jnp.square(z.dense())), like, noise)
        return jnp.sqrt(total_size(like) / sum(jax.tree.leaves(squares)))

    # One at a time: together, the noise of all directions would be in memory.
    return frame, lax.map(scale, jnp.arange(num_directions))


def _draw(gaussian: Direction, frame, index, like: PyTree) -> PyTree:
    frame, scales = frame
    noise = gaussian.draw(frame, index, like)
    return jax.tree.map(lambda _, z: dataclasses.replace(z, scale=scales[index]), like, noise)
