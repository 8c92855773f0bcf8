"""Low-rank directions: outer products, so that all directions share the product with the base."""

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from zojax import noise
from zojax._barriers import in_turn, zero_from
from zojax._checks import require_count, require_kind
from zojax._contract import contract
from zojax._direction import Direction
from zojax._numerics import accumulator_dtype
from zojax._sharding import replicated
from zojax._trees import PyTree
from zojax.directions._matrices import beside
from zojax.directions.rademacher import rademacher

_FACTORS = {"rademacher": noise.Signs, "normal": noise.Normals}


def low_rank(
    rank: int = 1, *, factors: str = "rademacher", vectors: Direction | None = None
) -> Direction:
    r""":math:`Z = A B^\top / \sqrt r` for leaves of two or more axes, another direction for vectors.

    A is m x r and B is n x r with independent entries of unit variance, so E zz' = I. A leaf of more
    than two axes is cut into a matrix. Its last or first axis stands alone, unless another
    cut more than halves m + n:

    - a stack of layers (L, D, F) is (L D) x F;
    - a convolution kernel (3, 3, C, K) is (9 C) x K;
    - an attention projection (D, H, K) is D x (H K).

    A slice of leading axes keeps the form.

    A step gets cheaper, not more accurate. x @ (W + mu Z) is x @ W, shared by all directions, plus two thin
    products. Noise costs r (m + n) instead of m n. The sum over more than 16 terms is one matrix product
    for each leaf. The variance has trace :math:`[mn - 1 + 2(r-1)/r]\|g\|^2` with sign factors, and
    :math:`([(m+2)(n+2) + (r-1)(mn+2)]/r - 1)\|g\|^2` with normal factors.

    Args:
      rank: r, at least 1.
      factors: "rademacher" or "normal".
      vectors: the direction of leaves with fewer than two axes; `rademacher()` by default.

    Raises:
      TypeError, ValueError: for a rank other than a positive int, or unknown factors.

    References:
      Sarkar et al., `Evolution strategies at the hyperscale <https://arxiv.org/abs/2511.16652>`_,
      2025 (EGGROLL); Chen et al., `Enhancing zeroth-order fine-tuning with low-rank structures
      <https://arxiv.org/abs/2410.07698>`_, 2024 (LOZO).

    >>> import jax, jax.numpy as jnp
    >>> from zojax import directions
    >>> like = jax.ShapeDtypeStruct((5, 4), jnp.float32)
    >>> direction = directions.low_rank(rank=2)
    >>> z = direction.draw(direction.frame(jax.random.key(0), 1, like), 0, like).dense()
    >>> z.shape, int(jnp.linalg.matrix_rank(z)) <= 2
    ((5, 4), True)
    """
    rank = require_count("rank", rank)
    if not isinstance(factors, str) or factors not in _FACTORS:
        raise ValueError(f"factors must be one of {sorted(_FACTORS)}, got {factors!r}.")
    source, vectors = _FACTORS[factors], rademacher() if vectors is None else vectors
    require_kind("vectors", vectors, Direction)
    draw = partial(_draw, rank, source)
    return beside(vectors, draw, partial(_combine, draw))


def _draw(rank: int, source, seed: jax.Array, index, like: PyTree) -> PyTree:
    leaves, treedef = jax.tree.flatten(like)
    sides = [parts(leaf.shape) for leaf in leaves]
    own = noise.child_seeds(seed, index, 1)[0]
    drawn = noise.low_rank_noise(source, own, sides, rank) if leaves else []
    return jax.tree.unflatten(treedef, drawn)


def _combine(draw, seed: jax.Array, coefficients: jax.Array, like: PyTree) -> PyTree:
    """One matrix product for each leaf, over directions and rank together; few terms join the update."""
    treedef: Any  # mypy knows no methods of it
    leaves, treedef = jax.tree.flatten(like)

    def weighted(i, c):
        drawn = treedef.flatten_up_to(draw(seed, i, like))
        return [(c * z.left.astype(c.dtype), z.right.astype(c.dtype)) for z in drawn]

    if coefficients.shape[0] == 1:  # as in the evaluation, so the compiler draws once for both
        factors = jax.tree.map(lambda x: x[None], weighted(0, coefficients[0]))
    else:
        # Drawn after the evaluations, or XLA would hold the row numbers of all factors through them.
        indices = jnp.arange(coefficients.shape[0], dtype=jnp.uint32) | zero_from(coefficients)
        factors = jax.vmap(weighted)(indices, coefficients)
    sums: list[jax.Array] = []
    for (a, b), leaf in zip(factors, leaves, strict=True):
        if sums:  # an update may be done with one sum before the next is made
            a = in_turn(a, sums[-1])
        axis = cut(leaf.shape)
        a, b = _sharded(a, leaf, slice(axis)), _sharded(b, leaf, slice(axis, None))
        sums.append(_product(a, b).astype(accumulator_dtype(leaf.dtype)))
    return treedef.unflatten(sums)


def _sharded(factor: jax.Array, leaf, axes: slice) -> jax.Array:
    """The factor, sharded as these axes of the leaf on explicit axes; on automatic ones, whole everywhere.

    There the compiler would draw a part of each factor on each device, and exchange the parts.
    """
    if leaf.sharding is None:
        return replicated(factor)
    whole = (*leaf.sharding.spec, *[None] * len(leaf.shape))[: len(leaf.shape)]
    sharding = jax.NamedSharding(leaf.sharding.mesh, jax.P(None, None, *whole[axes]))
    return jax.sharding.reshard(factor, sharding)


def _product(left: jax.Array, right: jax.Array) -> jax.Array:
    """The product over directions and rank, the first two axes of both."""
    left, right = (lax.collapse(x, 0, 2) for x in (left, right))
    rows = tuple(range(left.ndim - 1))
    columns = tuple(range(len(rows), len(rows) + right.ndim - 1))
    return contract(left, ("rank", *rows), right, ("rank", *columns), rows + columns)


def cut(shape: tuple[int, ...]) -> int:
    """The axis at which the columns of a leaf begin.

    The last or the first axis stands alone, where m + n is at most twice the least. For a convolution it is
    the axis of the output channels.
    """
    numbers = {i: math.prod(shape[:i]) + math.prod(shape[i:]) for i in range(1, len(shape))}
    least = min(numbers.values())
    ends = [i for i in (len(shape) - 1, 1) if numbers[i] <= 2 * least]
    return min(ends or numbers, key=lambda i: numbers[i])


def parts(shape: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The axes of the rows, and those of the columns."""
    axis = cut(shape)
    return shape[:axis], shape[axis:]
