"""What primitives do with perturbed operands. A rule is `rule(context, eqn, *operands) -> outputs`.

Views stay perturbed; products with low-rank noise are taken factor by factor; for everything else
the operand is materialised where it is used, in `Context.plain`.
"""

import math
from functools import partial

import jax.numpy as jnp
from jax import lax

from zojax._contract import contract
from zojax._numerics import accumulator_dtype
from zojax.implicit import _compat
from zojax.implicit._convolve import convolve
from zojax.implicit._perturbed import Access, Perturbed
from zojax.implicit._views import VIEWS, split


def fallback(context, eqn, *operands):
    arrays = {}  # by identity: both operands of x * x are one array
    for x in operands:
        if id(x) not in arrays:
            arrays[id(x)] = context.plain(x, eqn, beside=operands)
    return _compat.bind(eqn, *(arrays[id(x)] for x in operands))


# --- views ----------------------------------------------------------------------------------------


def _view(rule, context, eqn, operand, *indices):
    """Looks through the same window at the base and at the factors of the noise."""
    if not isinstance(operand, Perturbed) or _is_better_whole(eqn, operand):
        return fallback(context, eqn, operand, *indices)
    indices = [context.plain(i, eqn) for i in indices]
    view = operand.viewed(partial(rule, eqn, indices))
    if view is None:
        return fallback(context, eqn, operand, *indices)
    context.kept(operand, eqn)
    (base,) = _compat.bind(eqn, operand.base, *indices)
    is_activation = operand.is_activation or rule is VIEWS["gather"] or _grows(eqn, operand)
    return [view.replace(base=base, is_activation=is_activation)]


def _is_better_whole(eqn, operand) -> bool:
    return _fills_rows(eqn, operand) or _repeats(eqn, operand) or _trims_a_vector(eqn, operand)


def _fills_rows(eqn, operand) -> bool:
    """A gather that writes a number outside the bounds: row numbers cannot say 'no noise'."""
    fill = eqn.params.get("fill_value")
    is_nan = fill is None or fill != fill  # NaN stays NaN, whatever noise is added
    return not is_nan and isinstance(operand.join, Access) and operand.whole is None


def _repeats(eqn, operand) -> bool:
    """A broadcast of noise that is better generated once, before."""
    return _grows(eqn, operand) and (operand.is_vector or not operand.is_low_rank)


def _trims_a_vector(eqn, operand) -> bool:
    """x[1:] and the like, of odd length: better a slice of all, see `noise.of_even_length`."""
    trims = eqn.primitive.name == "slice" and eqn.params["strides"] is None
    kept = eqn.outvars[0].aval.size
    return trims and operand.is_long_vector and kept % 2 and kept > 0.75 * operand.base.size


def _grows(eqn, operand) -> bool:
    is_broadcast = eqn.primitive.name == "broadcast_in_dim"
    return is_broadcast and eqn.outvars[0].aval.size > operand.base.size


def _split(context, eqn, operand):
    context.kept(operand, eqn)
    axis, start, outs = eqn.params["axis"], 0, []
    for base in _compat.bind(eqn, operand.base):
        piece = split(axis, start, start + base.shape[axis])
        outs.append(operand.viewed(partial(piece, eqn, [])).replace(base=base))
        start += base.shape[axis]
    return outs


def _convert(context, eqn, operand):
    """The base is cast, the noise is not: it may be smaller than the new dtype could resolve.

    But 8 bits and less are no arithmetic, they are quantisation, and part of the function.
    """
    dtype = eqn.params["new_dtype"]
    if not jnp.issubdtype(dtype, jnp.floating) or jnp.finfo(dtype).bits < 16:
        return fallback(context, eqn, operand)
    return _same(context, eqn, operand)


def _same(context, eqn, *operands):
    """The identity on values (copies, names, shardings, barriers): applied to the base."""
    bases = _compat.bind(eqn, *(x.base if isinstance(x, Perturbed) else x for x in operands))
    return [
        x.replace(base=base) if isinstance(x, Perturbed) else base
        for x, base in zip(operands, bases, strict=True)
    ]


def _times_number(context, eqn, *operands):
    """w * s, w / s and -w, for one number s: the base and the scale of the noise are multiplied alike."""
    w = next(x for x in operands if isinstance(x, Perturbed))
    is_number = all(x is w or (not isinstance(x, Perturbed) and jnp.ndim(x) == 0) for x in operands)
    multiplies = operands[0] is w or eqn.primitive.name == "mul"
    if w.is_vector or sum(x is w for x in operands) > 1 or not (is_number and multiplies):
        return fallback(context, eqn, *operands)
    context.kept(w, eqn)
    operator = getattr(lax, eqn.primitive.name)
    dtype = w.scale.dtype
    (base,) = _compat.bind(eqn, *(w.base if x is w else x for x in operands))
    scale = operator(*(w.scale if x is w else lax.convert_element_type(x, dtype) for x in operands))
    return [w.replace(base=base, scale=scale)]


# --- products with low-rank noise -----------------------------------------------------------------


def _dot_general(context, eqn, lhs, rhs):
    """x . (w + scale A B') = x . w + scale (x . A) . B', the second term in float32 or better."""
    w, other = _one_low_rank(context, eqn, lhs, rhs)
    dtype = eqn.outvars[0].aval.dtype
    if w is None or not jnp.issubdtype(dtype, jnp.floating):
        return fallback(context, eqn, lhs, rhs)
    dtype, other = accumulator_dtype(dtype), context.stored(other)
    sides = (other, w.base) if w is rhs else (w.base, other)
    base = lax.dot_general(*sides, **eqn.params | {"preferred_element_type": dtype})
    names, w_names, out = _name_axes(eqn, w is rhs, w.base.ndim, other.ndim)
    noise = _times_factors(other.astype(dtype), names, w, w_names, out, w is rhs, _precision(eqn))
    context.kept(w, eqn)
    return [(base + noise).astype(eqn.outvars[0].aval.dtype)]


def _one_low_rank(context, eqn, lhs, rhs):
    """The operand whose noise is kept, if any, and the other as a plain array."""
    candidates = [x for x in (lhs, rhs) if isinstance(x, Perturbed) and x.is_low_rank]
    if not candidates:
        return None, None
    w = max(candidates, key=lambda x: x.base.size)
    other = rhs if w is lhs else lhs
    return w, (context.plain(other, eqn) if other is not w else other.materialise())


def _name_axes(eqn, w_is_rhs, w_rank, other_rank):
    """Names for the axes of both operands, equal where they meet, and for those of the output."""
    contracting, batch = eqn.params["dimension_numbers"]
    lhs_rank, rhs_rank = (other_rank, w_rank) if w_is_rhs else (w_rank, other_rank)
    lhs, rhs = [f"l{i}" for i in range(lhs_rank)], [f"r{i}" for i in range(rhs_rank)]
    for pairs in (contracting, batch):
        for i, j in zip(*pairs, strict=True):
            rhs[j] = lhs[i]
    gone, first = {lhs[i] for i in contracting[0]}, [lhs[i] for i in batch[0]]
    out = first + [n for n in (*lhs, *rhs) if n not in gone and n not in first]
    lhs, rhs, out = tuple(lhs), tuple(rhs), tuple(dict.fromkeys(out))
    return (lhs, rhs, out) if w_is_rhs else (rhs, lhs, out)


def _precision(eqn):
    """That of the user; an algorithm, which is made for the operands' dtypes, is not passed on."""
    precision = eqn.params["precision"]
    return precision if isinstance(precision, (lax.Precision, tuple)) else None


def _times_factors(x, names, w, w_names, out, w_is_rhs, precision):
    """scale * x . (A B'): first with the factor that sums over more, which leaves little.

    That factor takes the side of w: a compiler then has one layout of x for both products.
    """
    factors, dtype = [], x.dtype
    for side, factor in enumerate(w.factors):
        axes = w.axes(side)
        summed = [w.shape[a] for a in axes if w_names[a] not in out]
        factors.append((factor.astype(dtype), (*(w_names[a] for a in axes), "rank"), summed))
    (a, a_names, _), (b, b_names, _) = sorted(factors, key=lambda f: -math.prod(f[2]))
    wanted = {*out, *b_names}
    lhs, rhs = ((x, names), (a, a_names)) if w_is_rhs else ((a, a_names), (x, names))
    left = tuple(n for n in dict.fromkeys((*lhs[1], *rhs[1])) if n in wanted)
    thin = w.scale.astype(dtype) * contract(*lhs, *rhs, left, precision)
    return contract(thin, left, b, b_names, out, precision)


def _conv(context, eqn, lhs, rhs):
    """A convolution with `rank` output channels, times the factor that has the output channels."""
    spec = eqn.params["dimension_numbers"]
    out_axis = spec.rhs_spec[0]
    served = (
        isinstance(rhs, Perturbed)
        and rhs.is_low_rank
        and (out_axis,) in (rhs.axes(0), rhs.axes(1))
        and eqn.params["feature_group_count"] == eqn.params["batch_group_count"] == 1
    )
    if not served:
        return fallback(context, eqn, lhs, rhs)
    lhs = context.stored(context.plain(lhs, eqn))
    dtype = accumulator_dtype(eqn.outvars[0].aval.dtype)
    side = rhs.sides[out_axis]
    kernel = jnp.moveaxis(rhs.factors[1 - side].astype(dtype), -1, out_axis)
    options = eqn.params | {"preferred_element_type": dtype}
    base = lax.conv_general_dilated(lhs, rhs.base, **options)
    thin = convolve(lhs.astype(dtype), kernel, options)
    out = tuple(range(base.ndim))
    feature = spec.out_spec[1]
    names = tuple("rank" if i == feature else i for i in out)
    factor = rhs.factors[side].astype(dtype)
    noise = contract(rhs.scale.astype(dtype) * thin, names, factor, (feature, "rank"), out)
    context.kept(rhs, eqn)
    return [(base + noise).astype(eqn.outvars[0].aval.dtype)]


_IDENTITIES = ("copy", "name", "optimization_barrier", "pvary", "reshard")
RULES = {
    **{name: partial(_view, rule) for name, rule in VIEWS.items()},
    **dict.fromkeys((*_IDENTITIES, "sharding_constraint"), _same),
    **dict.fromkeys(("mul", "div", "neg"), _times_number),
    "split": _split,
    "convert_element_type": _convert,
    "dot_general": _dot_general,
    "conv_general_dilated": _conv,
}
