"""Low-rank directions: outer products, so that all directions share the product with the base."""

import math
from functools import partial

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
    draw = partial(_draw, rank, source, vectors)
    frame, most = partial(_frame, vectors), partial(_max_directions, vectors)
    return Direction(frame, draw, partial(_combine, draw, vectors), most, shares_products=True)


def _frame(vectors: Direction, key: jax.Array, num_directions: int, like: PyTree) -> PyTree:
    rest = _split(like)[1]
    seed = noise.make_seed(key)
    if not jax.tree.leaves(rest):
        return seed, None
    return seed, vectors.frame(noise.fold_in(key, 1), num_directions, rest)


def _draw(rank: int, source, vectors: Direction, frame: PyTree, index, like: PyTree) -> PyTree:
    matrices, rest = _split(like)
    leaves, treedef = jax.tree.flatten(matrices)
    parts = [_parts(leaf.shape) for leaf in leaves]
    seed = noise.child_seeds(frame[0], index, 1)[0]
    drawn = noise.low_rank_noise(source, seed, parts, rank) if leaves else []
    rest = vectors.draw(frame[1], index, rest) if jax.tree.leaves(rest) else rest
    return _merge(like, jax.tree.unflatten(treedef, drawn), rest)


def _combine(
    draw, vectors: Direction, frame: PyTree, coefficients: jax.Array, like: PyTree
) -> PyTree:
    """One matrix product for each leaf, over directions and rank together; few terms join the update."""
    matrices, rest = _split(like)
    leaves, treedef = jax.tree.flatten(matrices)

    def weighted(i, c):
        drawn = treedef.flatten_up_to(_split(like, draw(frame, i, like))[0])
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
    rest = vectors.combine(frame[1], coefficients, rest) if jax.tree.leaves(rest) else rest
    return _merge(like, jax.tree.unflatten(treedef, sums), rest)


def _sharded(factor: jax.Array, leaf, axes: slice) -> jax.Array:
    """The factor, sharded as these axes of the leaf on explicit axes; on automatic ones, whole everywhere.

    There the compiler would draw a part of each factor on each device, and exchange the parts.
    """
    if leaf.sharding is None:
        return replicated(factor)
    whole = (*leaf.sharding.spec, *[None] * len(leaf.shape))[: len(leaf.shape)]
    sharding = jax.NamedSharding(leaf.sharding.mesh, jax.P(None, None, *whole[axes]))
    return jax.sharding.reshard(factor, sharding)


def _max_directions(vectors: Direction, like: PyTree) -> int | None:
    rest = _split(like)[1]
    return vectors.max_directions(rest) if jax.tree.leaves(rest) else None


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


def _parts(shape: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    axis = cut(shape)
    return shape[:axis], shape[axis:]


def _split(like: PyTree, tree: PyTree | None = None) -> tuple[PyTree, PyTree]:
    """The parts of `tree` (or `like`) at matrices and at vectors, each with None for the other."""
    tree = like if tree is None else tree
    return (
        jax.tree.map(lambda leaf, x: x if len(leaf.shape) >= 2 else None, like, tree),
        jax.tree.map(lambda leaf, x: x if len(leaf.shape) < 2 else None, like, tree),
    )


def _merge(like: PyTree, matrices: PyTree, vectors: PyTree) -> PyTree:
    def chosen(leaf, matrix, vector):
        return matrix if len(leaf.shape) >= 2 else vector

    return jax.tree.map(chosen, like, matrices, vectors)
