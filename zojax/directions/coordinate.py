"""One coordinate at a time: classical finite differences, at random or as the full sweep."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from zojax import noise
from zojax._direction import Direction
from zojax._numerics import accumulator_dtype
from zojax._sharding import made_as
from zojax._trees import PyTree, starts, total_size
from zojax.directions._independent import seed_of_step
from zojax.directions._permutation import permute


def coordinate() -> Direction:
    r""":math:`z = \pm\sqrt d\, e_k`, the coordinates k of one step random and all different.

    With `num_directions = d` every coordinate is visited once and the estimate is the classical
    finite difference (Kiefer and Wolfowitz). With q < d it takes q random coordinates, times d / q, and the
    variance has trace :math:`(d/q - 1)\|g\|^2`. No permutation is stored, so d may be as large as 2^32 - 1.

    Raises:
      ValueError: if a step asks for more than d directions.

    >>> import jax, jax.numpy as jnp, zojax
    >>> estimator = zojax.estimator(zojax.directions.coordinate(), num_directions=3)
    >>> loss = lambda x: jnp.sum(x**2 * jnp.array([1.0, 2.0, 3.0]))
    >>> value, grads = zojax.value_and_grad(loss, estimator)(0, jnp.ones(3))
    >>> bool(jnp.allclose(grads, jnp.array([2.0, 4.0, 6.0]), atol=1e-2))
    True
    """
    return Direction(_frame, _draw, _combine, max_directions=total_size)


def _frame(key: jax.Array, num_directions: int, like: PyTree) -> jax.Array:
    if total_size(like) >= 2**32:
        raise ValueError(
            f"coordinate() numbers coordinates with 32 bits, got d = {total_size(like)}; "
            "use directions.masked to perturb a part, or directions.rademacher."
        )
    return seed_of_step(key, num_directions, like)


def _place(seed, index, like):
    """The flat coordinate of direction `index` and its sign."""
    index = jnp.asarray(index).astype(jnp.uint32)
    flat = permute(seed, index, total_size(like))
    bits, _ = noise.threefry((seed[0], seed[1]), flat, jnp.full_like(flat, 2**31))
    return flat, jnp.where(bits & 1, -1.0, 1.0).astype(jnp.float32)


def _draw(seed, index, like: PyTree) -> PyTree:
    flat, sign = _place(seed, index, like)
    scale = sign * np.float32(np.sqrt(total_size(like)))
    leaves, treedef = jax.tree.flatten(like)
    drawn = []
    for start, leaf in zip(starts(like), leaves, strict=True):
        width = leaf.shape[-1] if leaf.shape else 1
        local = flat - np.uint32(start)  # wraps to a huge row for earlier leaves
        inside = (flat >= np.uint32(start)) & (local < np.uint32(leaf.size))
        row = jnp.where(inside, local // np.uint32(max(width, 1)), np.uint32(2**32 - 1))
        source = noise.OneHot(row, local % np.uint32(max(width, 1)))
        drawn.append(noise.row_noise(source, leaf.shape, scale))
    return jax.tree.unflatten(treedef, drawn)


def _combine(seed, coefficients: jax.Array, like: PyTree) -> PyTree:
    """Scatters N scalars: O(d + N), not O(d N)."""
    flat, sign = jax.vmap(lambda i: _place(seed, i, like))(jnp.arange(coefficients.shape[0]))
    scale = sign * np.float32(np.sqrt(total_size(like)))
    weights = coefficients * scale.astype(coefficients.dtype)
    leaves, treedef = jax.tree.flatten(like)
    sums = []
    for start, leaf in zip(starts(like), leaves, strict=True):
        # A place outside the leaf, wrapped or not, is out of bounds of its first axis, and dropped.
        places = _unraveled(flat - np.uint32(start), leaf.shape)
        sums.append(made_as(leaf.sharding, partial(_scattered, leaf), places, weights))
    return jax.tree.unflatten(treedef, sums)


def _scattered(leaf, places: tuple, weights: jax.Array) -> jax.Array:
    zeros = jnp.zeros(leaf.shape or 1, accumulator_dtype(leaf.dtype))
    return zeros.at[places].add(weights.astype(zeros.dtype), mode="drop").reshape(leaf.shape)


def _unraveled(flat: jax.Array, shape: tuple[int, ...]) -> tuple:
    """The index of each axis; beyond the first axis for places beyond the end."""
    found: list[jax.Array] = []
    for size in shape[:0:-1]:
        flat, index = jnp.divmod(flat, np.uint32(max(size, 1)))
        found.append(index)
    return (flat, *found[::-1])
