"""Directions in the span of what matrices multiply: their inputs in the loss."""

import math
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from zojax import noise
from zojax._checks import require_count, require_kind
from zojax._contract import contract
from zojax._direction import Adaptive, Direction, Inputs, Outcome
from zojax._numerics import accumulator_dtype
from zojax._trees import PyTree, structure_of
from zojax.directions._matrices import beside, matrices_of
from zojax.directions._orthonormal import qr
from zojax.directions.low_rank import parts
from zojax.directions.normal import normal


class InputMemory(NamedTuple):
    """The bases of the inputs at the last look.

    Attributes:
      age: int32, steps.
      left: A of each matrix, (k, *rows); zero if no product sums over rows.
      right: the same for columns.
    """

    age: jax.Array
    left: PyTree
    right: PyTree


class _Choice(NamedTuple):
    """The checked arguments of `input_span`."""

    rank: int
    refresh: int
    vectors: Direction


def input_span(rank: int = 1, refresh: int = 1, vectors: Direction | None = None) -> Adaptive:
    r""":math:`Z = A R` for a matrix W that the loss reads as :math:`H W`, with A in the span of H.

    A has k orthonormal columns, near the leading right singular vectors of the inputs H at the parameters.
    R is k x n with normal entries, new in each direction. A matrix that is read as :math:`H W^\top` takes
    the other side. Each layer of a stack, and each matrix of a batched product, has its own A and R.

    The gradient of W is :math:`H^\top \delta`, so A A' keeps most of it for few k. The target changes:
    :math:`E zz' = A A^\top \otimes I` is a projector, so an estimate is the part of the gradient in the
    span, without a scale.

    A look is one evaluation of the loss of the first direction, and one power iteration,
    :math:`A \leftarrow \mathrm{qr}(H^\top H A)`, from the last A; normals come first. Matrices that no
    product reads, such as embeddings, take the direction of the vectors.

    The memory is k (m + n) numbers for each m x n matrix. A stack of L layers draws factors of rank L k.
    The direction needs the loss: its points cannot be evaluated elsewhere, and a log does not replay.

    Args:
      rank: k; less for matrices with fewer inputs.
      refresh: steps between looks.
      vectors: the direction of all other leaves; `normal()` by default.

    Raises:
      TypeError, ValueError: counts that are not positive.

    References:
      Lin et al., `AGZO: activation-guided zeroth-order optimization for LLM fine-tuning
      <https://arxiv.org/abs/2601.17261>`_, 2026.

    >>> import jax.numpy as jnp, zojax
    >>> h = jnp.array([[3.0, 4.0, 0.0]])
    >>> tx = zojax.zo_sgd(0.01, zojax.estimator(zojax.directions.input_span()))
    >>> params = jnp.ones((3, 2))
    >>> updates, state = tx.update(None, tx.init(params), params, value_fn=lambda w: jnp.sum(h @ w))
    >>> print(jnp.abs(state.estimator_state.direction.left))
    [[0.6 0.8 0. ]]
    """
    vectors = normal() if vectors is None else vectors
    require_kind("vectors", vectors, Direction)
    choice = _Choice(require_count("rank", rank), require_count("refresh", refresh), vectors)
    init, look = partial(_init, choice), partial(_look, choice)
    return Adaptive(init, _refuse, learn=_older, look=look)


def _init(choice: _Choice, like: PyTree) -> InputMemory:
    def zeros(side):
        def of_leaf(leaf):
            shapes = parts(leaf.shape)
            rank = min(choice.rank, *map(math.prod, shapes))
            return jnp.zeros((rank, *shapes[side]), jnp.float32)

        return jax.tree.map(of_leaf, matrices_of(like))

    return InputMemory(jnp.zeros([], jnp.int32), zeros(0), zeros(1))


def _refuse(memory: PyTree, params: PyTree) -> Direction:
    raise ValueError(
        "input_span looks at the loss, which neither values from outside nor a log contain: give update a "
        "value_fn, or choose another direction."
    )


def _older(memory: InputMemory, outcome: Outcome) -> InputMemory:
    del outcome
    return memory._replace(age=memory.age + 1)


class _Span(NamedTuple):
    """Where the basis of a matrix acts.

    Attributes:
      side: 0 for rows, 1 for columns.
      blocks: the number of matrices side by side, each with a basis of its own.
    """

    side: int
    blocks: int


def _look(
    choice: _Choice, memory: InputMemory, key: jax.Array, params: PyTree, inputs: Inputs
) -> tuple[InputMemory, Direction]:
    """The memory with new bases, when they are due, and the direction of this step."""
    like = structure_of(params)
    treedef: Any  # mypy knows no methods of it
    leaves, treedef = jax.tree.flatten(like)
    is_matrix = [len(leaf.shape) >= 2 for leaf in leaves]

    def pairs(memory):
        """The bases of each leaf; None for vectors."""
        both = zip(jax.tree.leaves(memory.left), jax.tree.leaves(memory.right), strict=True)
        return [next(both) if chosen else None for chosen in is_matrix]

    reads = treedef.flatten_up_to(inputs.reads(treedef.unflatten(pairs(memory))))
    spans = [_span(*both) for both in zip(pairs(memory), reads, strict=True)]

    def renewed():
        starts = [
            None if span is None else _start(noise.fold_in(key, i), pair)
            for i, (span, pair) in enumerate(zip(spans, pairs(memory), strict=True))
        ]
        found = treedef.flatten_up_to(inputs.products(treedef.unflatten(starts)))
        new = [
            pair if span is None else _orthonormal(span, start, product)
            for span, pair, start, product in zip(spans, pairs(memory), starts, found, strict=True)
        ]
        left, right = (treedef.unflatten([pair and pair[side] for pair in new]) for side in (0, 1))
        return memory._replace(left=left, right=right)

    memory = lax.cond(memory.age % choice.refresh == 0, renewed, lambda: memory)
    bases = zip(spans, pairs(memory), strict=True)
    known = [None if span is None else (span, pair) for span, pair in bases]
    return memory, _direction(choice.vectors, known)


def _span(pair, read) -> _Span | None:
    """The place of a basis; None where no product sums over whole trailing axes of a side."""
    if read is None:
        return None
    shape = pair[read.side].shape[1:]
    sizes = [math.prod(shape[i:]) for i in range(len(shape))]
    return _Span(read.side, math.prod(shape) // read.size) if read.size in sizes else None


def _start(key: jax.Array, pair) -> tuple:
    """The last bases; normals on a side without."""

    def of_side(side, basis):
        normals = jax.random.normal(noise.fold_in(key, side), basis.shape, jnp.float32)
        return jnp.where(jnp.any(basis != 0), basis, normals)

    return tuple(of_side(side, basis) for side, basis in enumerate(pair))


def _orthonormal(span: _Span, start, products) -> tuple:
    """Orthonormal bases of the products, block by block; of the start where the inputs are zero."""
    product = products[span.side]
    product = jnp.where(jnp.any(product != 0), product, start[span.side])
    blocks = jnp.moveaxis(product.reshape(len(product), span.blocks, -1), 0, -1)  # (b, size, k)
    blocks = blocks / (jnp.max(jnp.abs(blocks), axis=1, keepdims=True) + 1e-30)
    q = jax.vmap(lambda x: qr(x)[0])(blocks)  # of fewer columns, if the size is below k
    basis = jnp.zeros_like(blocks).at[..., : q.shape[-1]].set(q)
    basis = jnp.moveaxis(basis, -1, 0).reshape(product.shape)
    zeros = jnp.zeros_like(products[1 - span.side])
    return (zeros, basis)[:: 1 if span.side else -1]


def _direction(vectors: Direction, known: list[Any]) -> Direction:
    """The direction of one step; `known` has (span, bases) for matrices in the order of the leaves."""

    own = [k for k in known if k is not None]

    def cores(seed, index):
        """R of each matrix: (blocks, k, entries of the other side)."""
        seeds = noise.child_seeds(seed, index, max(len(known), 1))
        return [_core(s, *k) for s, k in zip(seeds, known, strict=False) if k is not None]

    def draw(seed, index, like):
        drawn = [_noise(*k, core) for k, core in zip(own, cores(seed, index), strict=True)]
        return jax.tree.unflatten(jax.tree.structure(like), drawn)

    def combine(seed, coefficients, like):
        leaves, treedef = jax.tree.flatten(like)
        c = coefficients.astype(jnp.float32)
        terms = jax.vmap(lambda i, c: [c * core for core in cores(seed, i)])(jnp.arange(len(c)), c)
        each = zip(leaves, own, terms, strict=True)
        return treedef.unflatten([_sum(leaf, *k, jnp.sum(x, axis=0)) for leaf, k, x in each])

    return beside(vectors, draw, combine, lambda like: [k is not None for k in known])


def _core(seed, span: _Span, pair) -> jax.Array:
    rank, *shape = pair[1 - span.side].shape
    rows = noise.row_noise(noise.Normals(seed), (span.blocks * rank, math.prod(shape)))
    return rows.dense().reshape(span.blocks, rank, -1)


def _noise(span: _Span, pair, core: jax.Array) -> noise.LowRankNoise:
    """The sum over blocks of A_b R_b, as factors of rank blocks * k."""
    basis, other = pair[span.side], pair[1 - span.side]
    by_block = jnp.moveaxis(basis.reshape(len(basis), span.blocks, -1), 0, 1)
    eye = np.eye(span.blocks, dtype=np.float32)
    spread = by_block[:, :, None] * eye[:, None, :, None]  # (b, k, b, size)
    factors = spread.reshape(-1, *basis.shape[1:]), core.reshape(-1, *other.shape[1:])
    return noise.LowRankNoise(*factors[:: -1 if span.side else 1])


def _sum(leaf, span: _Span, pair, core: jax.Array) -> jax.Array:
    basis = pair[span.side].reshape(len(core[0]), span.blocks, -1)
    out = ("other", "block", "size") if span.side else ("block", "size", "other")
    names = ("rank", "block", "size"), ("block", "rank", "other")
    total = contract(basis, names[0], core, names[1], out, lax.Precision.HIGHEST)
    return total.reshape(leaf.shape).astype(accumulator_dtype(leaf.dtype))
