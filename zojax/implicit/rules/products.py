"""Matrix products with low-rank noise, one factor after the other.

    x . (w + scale A B') = x . w + scale (x . A) . B'

Under `vmap` over directions, all share the first product. The second term is in float32 or better.
"""

import math

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import JaxprEqn

from zojax._contract import contract
from zojax._numerics import accumulator_dtype
from zojax.implicit import _compat
from zojax.implicit._perturbed import Perturbed
from zojax.implicit._registry import rule
from zojax.implicit._walk import Context


@rule("dot_general")
def dot_general(context: Context, eqn: JaxprEqn, lhs, rhs) -> list:
    w = _largest_low_rank(lhs, rhs)
    dtype = _compat.output_type(eqn).dtype
    if w is None or not jnp.issubdtype(dtype, jnp.floating):
        return context.fallback(eqn, lhs, rhs)
    other = rhs if w is lhs else lhs
    other = context.plain(other, eqn) if other is not w else w.materialise()
    dtype, other = accumulator_dtype(dtype), context.stored(other)
    sides = (other, w.base) if w is rhs else (w.base, other)
    base = lax.dot_general(*sides, **eqn.params | {"preferred_element_type": dtype})
    names, w_names, out = _name_axes(eqn, w is rhs, w.base.ndim, other.ndim)
    noise = _times_factors(other.astype(dtype), names, w, w_names, out, w is rhs, _precision(eqn))
    context.kept(w, eqn)
    return [(base + noise).astype(_compat.output_type(eqn).dtype)]


def _largest_low_rank(*operands) -> Perturbed | None:
    """The operand whose noise is kept."""
    candidates = [x for x in operands if isinstance(x, Perturbed) and x.is_low_rank]
    return max(candidates, key=lambda x: x.base.size, default=None)


def _name_axes(
    eqn: JaxprEqn, w_is_rhs: bool, w_rank: int, other_rank: int
) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """Names for the axes of the other operand, of w, and of the output; axes that meet share a name."""
    contracting, batch = eqn.params["dimension_numbers"]
    lhs_rank, rhs_rank = (other_rank, w_rank) if w_is_rhs else (w_rank, other_rank)
    lhs, rhs = [f"l{i}" for i in range(lhs_rank)], [f"r{i}" for i in range(rhs_rank)]
    for pairs in (contracting, batch):
        for i, j in zip(*pairs, strict=True):
            rhs[j] = lhs[i]
    gone, first = {lhs[i] for i in contracting[0]}, [lhs[i] for i in batch[0]]
    out = first + [n for n in (*lhs, *rhs) if n not in gone and n not in first]
    both = (tuple(lhs), tuple(rhs)) if w_is_rhs else (tuple(rhs), tuple(lhs))
    return *both, tuple(dict.fromkeys(out))


def _precision(eqn: JaxprEqn):
    """The user's precision. A dot algorithm is dropped: it fits the dtypes of the original operands."""
    precision = eqn.params["precision"]
    return precision if isinstance(precision, (lax.Precision, tuple)) else None


def _times_factors(
    x: jax.Array,
    names: tuple[str, ...],
    w: Perturbed,
    w_names: tuple[str, ...],
    out: tuple[str, ...],
    w_is_rhs: bool,
    precision,
) -> jax.Array:
    """scale * x . (A B'): first with the factor that sums over more entries, for a small result.

    That factor takes the side of w, so that the compiler needs one layout of x for both products.
    """
    factors, dtype = [], x.dtype
    for side, factor in enumerate(w.factors):
        axes = w.axes(side)
        summed = [w.shape[a] for a in axes if w_names[a] not in out]
        factors.append((factor.astype(dtype), (*(w_names[a] for a in axes), "rank"), summed))
    (a, a_names, _), (b, b_names, _) = sorted(factors, key=lambda f: -math.prod(f[2]))
    wanted = {*out, *b_names}
    lhs, rhs = (x, a) if w_is_rhs else (a, x)
    lhs_names, rhs_names = (names, a_names) if w_is_rhs else (a_names, names)
    left = tuple(n for n in dict.fromkeys((*lhs_names, *rhs_names)) if n in wanted)
    thin = w.scale.astype(dtype) * contract(lhs, lhs_names, rhs, rhs_names, left, precision)
    return contract(thin, left, b, b_names, out, precision)
