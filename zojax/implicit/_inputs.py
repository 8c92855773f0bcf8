"""The inputs of matrices: what products multiply them with.

The interpreter runs a function at its parameters. Where a product reads a matrix W, or a view of it, the
interpreter sees the other operand H. Rows of the gradient of W lie in the span of H.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import JaxprEqn

from zojax._contract import contract
from zojax._trees import PyTree
from zojax.implicit import _compat
from zojax.implicit._materialise import materialise
from zojax.implicit._perturbed import Perturbed
from zojax.implicit._program import run
from zojax.implicit._walk import Context
from zojax.implicit.rules.products import name_axes
from zojax.noise import LowRankNoise

_RETURNING = "scan", "cond"  # their bodies return one number more


class Read(NamedTuple):
    """How products read a matrix.

    Attributes:
      side: 0 if they sum over rows, 1 if over columns.
      size: the number of entries in one sum.
    """

    side: int
    size: int


@dataclass(frozen=True)
class Inputs:
    r"""The inputs H of the matrices of a function, at parameters x.

    Bases are a tree with a pair (A, B) for each matrix, and None for other leaves. A has the shape
    (k, \*rows) and B (k, \*columns).

    Attributes:
      fun: the function; it returns any pytree.
      params: x.

    >>> import jax.numpy as jnp
    >>> h, w = jnp.array([[1.0, 2.0], [0.0, 1.0]]), jnp.ones((2, 3))
    >>> inputs, bases = Inputs(lambda w: h @ w, w), (jnp.eye(2), jnp.zeros((2, 3)))
    >>> inputs.reads(bases), inputs.products(bases)[0].tolist()
    (Read(side=0, size=2), [[1.0, 2.0], [2.0, 5.0]])
    """

    fun: Callable[[PyTree], Any]
    params: PyTree

    def reads(self, bases: PyTree) -> PyTree:
        """The `Read` of each matrix; None for a matrix that no product reads."""
        found: dict[str, Read] = {}
        jax.eval_shape(partial(self._total, found), bases)
        paths = jax.tree_util.tree_leaves_with_path(self.params, is_leaf=lambda x: x is None)
        treedef: Any = jax.tree.structure(self.params, is_leaf=lambda x: x is None)
        return treedef.unflatten([found.get(_name(path)) for path, _ in paths])

    def products(self, bases: PyTree) -> PyTree:
        r"""H'H A, or H'H B, of each matrix, summed over the products that read it; else zeros.

        This is one evaluation of the function. A loop keeps k numbers for each row of its matrices.
        """
        # The sum over products of <H'H A, A>, with H'H A constant, has the gradient H'H A. So JAX
        # transposes the views between a matrix and its products.
        return jax.grad(partial(self._total, {}))(bases)

    def _total(self, found: dict[str, Read], bases: PyTree) -> jax.Array:
        noise = jax.tree.map(
            lambda p, pair: None if pair is None else LowRankNoise(*pair),
            self.params,
            bases,
            is_leaf=lambda x: x is None,
        )
        context = _Reader(found=found)
        run(context, self.fun, self.params, noise, 0.0, (), {})
        return sum(context.terms, jnp.float32(0))


def _name(path: tuple) -> str:
    return f"params{jax.tree_util.keystr(path)}"


@dataclass(frozen=True)
class _Reader(Context):
    """An evaluation at the parameters themselves, which notes the inputs of products."""

    terms: list[jax.Array] = field(default_factory=list)
    found: dict[str, Read] = field(default_factory=dict)

    def plain(self, x, eqn: JaxprEqn | None, beside: Sequence = ()) -> jax.Array:
        del eqn, beside
        if not isinstance(x, Perturbed):
            return x
        without = tuple(None if f is None else lax.stop_gradient(f)[..., :0] for f in x.factors)
        return materialise(x.replace(factors=without))

    def waiting(self, x: Perturbed, beside: Sequence) -> Perturbed:
        del beside
        return x

    def _evaluate(self, eqn: JaxprEqn, operands: Sequence) -> Sequence:
        name, reads = eqn.primitive.name, [isinstance(x, Perturbed) for x in operands]
        if name == "dot_general" and any(reads):
            if not all(reads):
                self._note_inputs(eqn, reads[1], *operands[:: -1 if reads[0] else 1])
            return _compat.bind(eqn, *(self.plain(x, eqn) for x in operands))
        outs = super()._evaluate(eqn, operands)
        if name in _RETURNING and any(reads):
            *outs, terms = outs
            self.terms.append(jnp.sum(terms))
        return outs

    def interpret_body(
        self, eqn: JaxprEqn, jaxpr, consts: Sequence, args: Sequence, changing: Sequence = ()
    ) -> list[jax.Array]:
        inner = replace(self, terms=[])
        outs = Context.interpret_body(inner, eqn, jaxpr, consts, args, changing)
        is_returned = eqn.primitive.name in _RETURNING
        return [*outs, sum(inner.terms, jnp.float32(0))] if is_returned else outs

    def _note_inputs(self, eqn: JaxprEqn, w_is_rhs: bool, x: jax.Array, w: Perturbed) -> None:
        """Adds <H'H A, A> for the factor A that the product sums over."""
        names, w_names, out = name_axes(eqn, w_is_rhs)
        summed = [a for a, name in enumerate(w_names) if name not in out]
        side = w.side_of(summed) if w.is_low_rank and not w.multipliers else None
        if side is None:
            return
        self.found[w.name] = Read(side, math.prod(w.shape[a] for a in summed))
        factor, x = w.factors[side], lax.stop_gradient(x).astype(jnp.float32)
        a_names = (*(w_names[a] for a in w.axes(side)), "rank")
        a = lax.stop_gradient(factor)
        kept = [n for n in dict.fromkeys((*names, *a_names)) if n not in names or n in out]
        seen = contract(x, names, a, a_names, tuple(kept), lax.Precision.HIGHEST)
        product = contract(x, names, seen, tuple(kept), a_names, lax.Precision.HIGHEST)
        self.terms.append(jnp.sum(product * factor))
