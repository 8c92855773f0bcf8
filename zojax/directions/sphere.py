"""Uniform on the sphere of radius sqrt(d): a normal direction over all leaves, then rescaled."""

import dataclasses
import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from zojax import noise
from zojax._direction import Direction
from zojax._sharding import varying_like
from zojax._trees import PyTree, total_size
from zojax.directions._combine import accumulate
from zojax.directions.normal import normal

_BLOCK = 2**16  # entries that a CPU makes at once for a radius


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
        drawn = gaussian.draw(frame, index, like)
        squares = jax.tree.map(lambda _, z: _sum_of_squares(z), like, drawn)
        return jnp.sqrt(total_size(like) / sum(jax.tree.leaves(squares)))

    # One at a time: together, the noise of all directions would be in memory.
    return frame, lax.map(scale, jnp.arange(num_directions))


def _sum_of_squares(z: noise.RowNoise) -> jax.Array:
    return lax.platform_dependent(z, cpu=_in_blocks, default=lambda z: jnp.sum(z.dense() ** 2))


def _in_blocks(z: noise.RowNoise) -> jax.Array:
    """Block after block of the leaf: XLA's CPU backend stores all entries that it sums."""
    width, is_vector = 1 if z.width is None else z.width, not z.row.ndim
    count, size = (width, 1) if is_vector else (math.prod(z.row.shape), width)
    each = max(1, min(count, _BLOCK // max(size, 1)))

    def squares(first, each: int):
        numbers = first + lax.iota(jnp.uint32, each)
        if is_vector:
            entries = z.source.columns(jnp.zeros_like(numbers), numbers, width)
        else:
            entries = z.source.rows(numbers, width)
        return jnp.square(entries)

    blocks, rest = divmod(count, each)
    start = varying_like(jnp.zeros(each if is_vector else (each, width), jnp.float32), z)
    total = lax.fori_loop(
        0, blocks, lambda i, total: total + squares(jnp.uint32(i) * np.uint32(each), each), start
    )
    return jnp.sum(total) + jnp.sum(squares(np.uint32(blocks * each), rest))


def _draw(gaussian: Direction, frame, index, like: PyTree) -> PyTree:
    frame, scales = frame
    drawn = gaussian.draw(frame, index, like)
    return jax.tree.map(lambda _, z: dataclasses.replace(z, scale=scales[index]), like, drawn)
