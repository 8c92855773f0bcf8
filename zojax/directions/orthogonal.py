"""Exactly orthogonal directions: a random frame from a QR decomposition, stored."""

import jax
import jax.numpy as jnp
import numpy as np

from zojax import noise
from zojax._direction import Direction
from zojax._sharding import replicated
from zojax._trees import PyTree, starts, total_size
from zojax.directions._combine import accumulate
from zojax.directions._orthonormal import qr


def orthogonal() -> Direction:
    r"""q columns of a uniformly random (Haar) orthogonal matrix, times :math:`\sqrt d`.

    The q directions of a step are exactly orthogonal. On a quadratic the variance has trace
    :math:`(d/q - 1)\|g\|^2`, zero at q = d. A step stores d x q numbers and takes O(d q^2) operations.
    For large d use `hadamard`, which stores nothing.

    Raises:
      ValueError: if a step asks for more than d directions.

    References:
      Choromanski et al., `Structured evolution with compact architectures for scalable policy
      optimization <https://arxiv.org/abs/1804.02395>`_, 2018.

    >>> import jax.numpy as jnp, zojax
    >>> estimator = zojax.estimator(zojax.directions.orthogonal(), num_directions=2, mu=0.1)
    >>> value, grads = zojax.value_and_grad(lambda x: x[0] ** 2 + x[1], estimator)(0, jnp.ones(2))
    >>> bool(jnp.allclose(grads, jnp.array([2.0, 1.0]), atol=1e-3))
    True
    """
    return Direction(_frame, _draw, accumulate(_draw), max_directions=total_size)


def _frame(key: jax.Array, num_directions: int, like: PyTree) -> jax.Array:
    normals = jax.random.normal(key, (total_size(like), num_directions))
    q, r = qr(normals)
    # QR leaves the signs free; without this choice the columns are not uniform (Mezzadri, 2007).
    q *= jnp.where(jnp.diagonal(r) < 0, -1, 1)[None] * np.sqrt(total_size(like))
    # Each device has the whole matrix, and whole columns. XLA would move shards of them to and fro.
    return replicated(q)


def _draw(frame: jax.Array, index, like: PyTree) -> PyTree:
    column = frame[:, index].astype(jnp.float32)
    leaves, treedef = jax.tree.flatten(like)
    parts = jnp.split(column, starts(like)[1:])
    pairs = zip(parts, leaves, strict=True)
    drawn = [noise.StoredNoise(replicated(part).reshape(leaf.shape)) for part, leaf in pairs]
    return jax.tree.unflatten(treedef, drawn)
