"""Matrices in a subspace that several steps share, spanned by stored bases."""

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from zojax import noise
from zojax._checks import require_count, require_kind, require_option, require_rate
from zojax._contract import contract
from zojax._direction import Adaptive, Direction, Outcome
from zojax._numerics import accumulator_dtype
from zojax._trees import PyTree, structure_of
from zojax.directions._independent import of_leaves
from zojax.directions._matrices import beside, matrices_of
from zojax.directions._orthonormal import qr
from zojax.directions.low_rank import parts
from zojax.directions.normal import normal

_SIDES = "left", "right", "both"
_BASES = "orthonormal", "normal"


class SubspaceMemory(NamedTuple):
    """The bases of the present subspace.

    Attributes:
      age: int32, steps in it.
      left: A of each matrix, (r, m), or None.
      right: B of each matrix, (r, n), or None.
      moment: the running mean of the inner gradients, or None without momentum.
    """

    age: jax.Array
    left: PyTree
    right: PyTree
    moment: PyTree


def subspace(
    rank: int,
    sides: str = "both",
    refresh: int = 1000,
    basis: str = "orthonormal",
    momentum: float | None = None,
    transform: Callable[[jax.Array], jax.Array] | None = None,
    vectors: Direction | None = None,
) -> Adaptive:
    r""":math:`Z = s\, A C B^\top` for leaves of two or more axes: C is new in each step, A and B are kept.

    | sides | Z | C | s, orthonormal | s, normal |
    |---|---|---|---|---|
    | both | s A C B' | r x r | sqrt(mn) / r | 1 / r |
    | left | s A C | r x n | sqrt(m / r) | 1 / sqrt(r) |
    | right | s C B' | m x r | sqrt(n / r) | 1 / sqrt(r) |

    C has normal entries. s makes the mean square of an entry 1, so mu is how far a weight moves. Over many
    subspaces E zz' = I. Within one, steps move inside it. A leaf of more axes is cut into a matrix as
    by `low_rank`; stacked layers are one matrix.

    With a momentum or a `transform` the gradient of a step is :math:`A\,T(M)\,B^\top`, where M is the
    mean of :math:`s \sum_i c_i C_i` over steps. When the bases change, M is projected: :math:`M
    B_{old}^\top B_{new}` over n for normal bases, and the same from the left.

    The memory is r (m + n) numbers for each matrix, and with a momentum the numbers of C.

    Args:
      rank: r; less for matrices with fewer rows or columns.
      sides: which sides of C have a basis.
      refresh: steps between new bases, which the key of a step determines.
      basis: "orthonormal", by QR of normals, or "normal".
      momentum: decay of M; None for the gradient of the step alone.
      transform: T, a function of M, such as `newton_schulz`.
      vectors: the direction of leaves with fewer than two axes; `normal()` by default.

    Raises:
      TypeError, ValueError: counts that are not positive, unknown sides or bases.

    References:
      Yu et al., `Zeroth-order fine-tuning of LLMs in random subspaces
      <https://arxiv.org/abs/2410.08989>`_, 2024 (SubZero); Chen et al., `Enhancing zeroth-order
      fine-tuning with low-rank structures <https://arxiv.org/abs/2410.07698>`_, 2024 (LOZO).

    >>> import jax.numpy as jnp, zojax
    >>> tx = zojax.zo_sgd(0.01, zojax.estimator(zojax.directions.subspace(rank=2, refresh=10)))
    >>> params = jnp.ones((5, 4))
    >>> updates, state = tx.update(None, tx.init(params), params, value_fn=lambda x: jnp.sum(x**2))
    >>> state.estimator_state.direction.left.shape, int(jnp.linalg.matrix_rank(updates))
    ((2, 5), 2)
    """
    rank, refresh = require_count("rank", rank), require_count("refresh", refresh)
    require_option("sides", sides, _SIDES)
    require_option("basis", basis, _BASES)
    if momentum is not None:
        require_rate("momentum", momentum)
    vectors = normal() if vectors is None else vectors
    require_kind("vectors", vectors, Direction)
    choice = _Choice(rank, sides, refresh, basis == "orthonormal", momentum, transform, vectors)
    init, begin, learn = (partial(part, choice) for part in (_init, _begin, _learn))
    return Adaptive(init, partial(_direction, choice), begin, learn, shares_products=True)


def newton_schulz(m: jax.Array, steps: int = 5) -> jax.Array:
    """A matrix of the same singular vectors whose singular values are near 1.

    Quintic iterations of Muon (Jordan et al., 2024).

    >>> import jax.numpy as jnp
    >>> s = jnp.linalg.svd(newton_schulz(jnp.array([[3.0, 1.0, 0.0], [0.0, 0.5, 2.0]])))[1]
    >>> bool(jnp.all((s > 0.6) & (s < 1.3)))
    True
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    x = m if m.shape[0] <= m.shape[1] else m.T
    x = x / (jnp.linalg.norm(x) + 1e-7)
    product = partial(jnp.matmul, precision="highest")
    for _ in range(steps):
        gram = product(x, x.T)
        x = a * x + product(b * gram + c * product(gram, gram), x)
    return x if m.shape[0] <= m.shape[1] else x.T


class _Choice(NamedTuple):
    """The checked arguments of `subspace`."""

    rank: int
    sides: str
    refresh: int
    is_orthonormal: bool
    momentum: float | None
    transform: Callable[[jax.Array], jax.Array] | None
    vectors: Direction


class _Sizes(NamedTuple):
    """Rows and columns of a matrix and of its C, the rank, and the scale s."""

    rows: int
    columns: int
    rank: int
    core: tuple[int, int]
    scale: float


def _sizes(choice: _Choice, leaf) -> _Sizes:
    m, n = (math.prod(part) for part in parts(leaf.shape))
    r = min(choice.rank, m, n)
    left, right = choice.sides != "right", choice.sides != "left"
    core = (r if left else m, r if right else n)
    if choice.is_orthonormal:
        scale = math.sqrt(m * n / (core[0] * core[1]))
    else:
        scale = 1 / math.sqrt(r ** (left + right))
    return _Sizes(m, n, r, core, scale)


def _init(choice: _Choice, like: PyTree) -> SubspaceMemory:
    def zeros(shape):
        def of_leaf(leaf):
            return jnp.zeros(shape(_sizes(choice, leaf)), jnp.float32)

        return jax.tree.map(of_leaf, matrices_of(like))

    return SubspaceMemory(
        age=jnp.zeros([], jnp.int32),
        left=None if choice.sides == "right" else zeros(lambda s: (s.rank, s.rows)),
        right=None if choice.sides == "left" else zeros(lambda s: (s.rank, s.columns)),
        moment=None if choice.momentum is None else zeros(lambda s: s.core),
    )


def _begin(
    choice: _Choice, memory: SubspaceMemory, key: jax.Array, params: PyTree
) -> SubspaceMemory:
    """The memory with new bases, when they are due."""
    del params

    def renewed():
        def new(i, old):
            return None if old is None else _bases(choice, noise.fold_in(key, i), old)

        left, right = new(1, memory.left), new(2, memory.right)
        moment = memory.moment
        if moment is not None and left is not None:
            turns = jax.tree.map(partial(_turn, choice), left, memory.left)
            moment = jax.tree.map(_dot, turns, moment)
        if moment is not None and right is not None:
            turns = jax.tree.map(partial(_turn, choice), memory.right, right)
            moment = jax.tree.map(_dot, moment, turns)
        return memory._replace(left=left, right=right, moment=moment)

    return lax.cond(memory.age % choice.refresh == 0, renewed, lambda: memory)


def _bases(choice: _Choice, key: jax.Array, old: PyTree) -> PyTree:
    leaves, treedef = jax.tree.flatten(old)
    new = []
    for i, leaf in enumerate(leaves):
        normals = jax.random.normal(noise.fold_in(key, i), leaf.shape, jnp.float32)
        new.append(qr(normals.T)[0].T if choice.is_orthonormal else normals)
    return jax.tree.unflatten(treedef, new)


def _turn(choice: _Choice, a: jax.Array, b: jax.Array) -> jax.Array:
    """From coordinates in one basis to those in another."""
    return _dot(a, b.T) / (1 if choice.is_orthonormal else a.shape[1])


def _direction(choice: _Choice, memory: SubspaceMemory, params: PyTree) -> Direction:
    del params
    draw, combine = (partial(f, choice, memory) for f in (_draw, _combine))
    return beside(choice.vectors, draw, combine)


def _draw(choice: _Choice, memory: SubspaceMemory, seed, index, like: PyTree) -> PyTree:
    def of_leaf(leaf, core, left, right):
        rows, columns = parts(leaf.shape)
        a, b = _factors(core, left, right)
        a = np.float32(_sizes(choice, leaf).scale) * a
        return noise.LowRankNoise(a.reshape(-1, *rows), b.reshape(-1, *columns))

    return _map(of_leaf, like, _cores(choice, seed, index, like), memory)


def _factors(core: jax.Array, left, right) -> tuple[jax.Array, jax.Array]:
    """A C B' as two factors, rank first."""
    if left is None:
        return core.T, right
    if right is None:
        return left, core
    return _dot(core.T, left), right


def _combine(choice: _Choice, memory: SubspaceMemory, seed, coefficients, like: PyTree) -> PyTree:
    mean = _mean(choice, memory, seed, coefficients, like)
    transform = choice.transform or (lambda m: m)

    def of_leaf(leaf, mean, left, right):
        a, b = _factors(transform(mean), left, right)
        out = contract(a, ("rank", 0), b, ("rank", 1), (0, 1), precision=lax.Precision.HIGHEST)
        return out.reshape(leaf.shape).astype(accumulator_dtype(leaf.dtype))

    return _map(of_leaf, like, mean, memory)


def _learn(choice: _Choice, memory: SubspaceMemory, outcome: Outcome) -> SubspaceMemory:
    moment = memory.moment
    if moment is not None:
        matrices = matrices_of(structure_of(outcome.grads))
        moment = _mean(choice, memory, outcome.frame[0], outcome.coefficients, matrices)
    return memory._replace(age=memory.age + 1, moment=moment)


def _mean(choice: _Choice, memory: SubspaceMemory, seed, coefficients, matrices: PyTree) -> PyTree:
    """M after this step."""
    c = coefficients.astype(jnp.float32)

    def weighted(i, c):
        return jax.tree.map(lambda core: c * core, _cores(choice, seed, i, matrices))

    terms = jax.vmap(weighted)(jnp.arange(len(c)), c)

    def of_leaf(leaf, terms, moment):
        now = np.float32(_sizes(choice, leaf).scale) * jnp.sum(terms, axis=0)
        if moment is None:
            return now
        return choice.momentum * moment + (1 - choice.momentum) * now

    leaves, treedef = jax.tree.flatten(matrices)
    none = [None] * len(leaves)
    moments = none if memory.moment is None else jax.tree.leaves(memory.moment)
    return jax.tree.unflatten(treedef, map(of_leaf, leaves, jax.tree.leaves(terms), moments))


def _cores(choice: _Choice, seed, index, matrices: PyTree) -> PyTree:
    """C of each matrix, for direction `index`."""

    def core(own, leaf):
        return noise.row_noise(noise.Normals(own), _sizes(choice, leaf).core).dense()

    return of_leaves(core, seed, index, matrices)


def _map(fun: Callable, matrices: PyTree, tree: PyTree, memory: SubspaceMemory) -> PyTree:
    """`fun(leaf, x, left basis or None, right basis or None)` of each matrix."""
    leaves, treedef = jax.tree.flatten(matrices)
    none = [None] * len(leaves)
    left = none if memory.left is None else jax.tree.leaves(memory.left)
    right = none if memory.right is None else jax.tree.leaves(memory.right)
    return jax.tree.unflatten(treedef, map(fun, leaves, jax.tree.leaves(tree), left, right))


def _dot(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.dot(a, b, precision=lax.Precision.HIGHEST)
