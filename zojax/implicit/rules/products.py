"""Matrix products with low-rank noise, one factor after the other.

    x . (w + scale A B') = x . w + scale (x . A) . B'

Under `vmap` over directions, all share the first product. The second term is in float32 or better. A mask
M of single entries costs one product more for each term of the rank, with the same M for all directions:

    x . (M * a b') = ((x * a) . M) * b

A weight with fewer entries than x and the product is materialised instead. On a CPU, so is the weight of a
direction whose x has many rows, one direction after another.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import cast

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import JaxprEqn
from jax.sharding import PartitionSpec

from zojax._barriers import in_turn, row_major, shared_in_turn, written
from zojax._contract import contract
from zojax._numerics import accumulator_dtype
from zojax.implicit import _compat
from zojax.implicit._batched import with_derivative
from zojax.implicit._low_rank import Term, total
from zojax.implicit._materialise import materialise
from zojax.implicit._perturbed import Multiplier, Part, Perturbed, base_of
from zojax.implicit._pieces import shards_of
from zojax.implicit._registry import rule
from zojax.implicit._walk import Context

# Of masked products in turn: rows of a member, and entries of the weight. Below, all at once is faster.
# With fewer rows than that a factor is large beside x.
_MANY_ROWS, _SMALL = 64, 2**12


@rule("dot_general", deferred=True, flat=True)
def dot_general(context: Context, eqn: JaxprEqn, lhs, rhs) -> list:
    flat = next((x for x in (lhs, rhs) if isinstance(x, Perturbed) and x.flat), None)
    if flat is not None:
        return _of_all_entries(context, eqn, flat.base, lhs, rhs)
    w = _largest_low_rank(lhs, rhs)
    dtype = _compat.output_type(eqn).dtype
    if w is None or not jnp.issubdtype(dtype, jnp.floating):
        # The context knows the operands, not their stored copies: so noise waits for the operands.
        operands = (x if isinstance(x, Perturbed) else written(x) for x in (lhs, rhs))
        found = context.fallback(eqn, *operands, beside=(lhs, rhs))
        return [row_major(y) for y in found] if context.is_body else found
    if all(isinstance(x, Perturbed) and x.is_low_rank for x in (lhs, rhs)):
        pair = lhs.folded(), rhs.folded()
        return [_of_two(context, eqn, *pair)] if all(pair) else context.fallback(eqn, lhs, rhs)
    w_is_rhs = w is rhs
    x = context.plain(lhs if w_is_rhs else rhs, eqn)
    eqn, order = _batch_first(eqn, 0 if w_is_rhs else 1)
    return [_product(context, eqn, w_is_rhs, context.stored(x, order), w).astype(dtype)]


def _batch_first(eqn: JaxprEqn, side: int) -> tuple[JaxprEqn, list[int]]:
    """The product after a transpose of one operand to this order of its axes: batch, kept, summed.

    XLA's CPU backend computes in this order. It would transpose the operand for each of two products.
    """
    contracting, batch = eqn.params["dimension_numbers"]
    ndim = _compat.operand_type(eqn, side).ndim
    if not batch[side]:
        return eqn, [*range(ndim)]
    first, last = [*batch[side]], [*contracting[side]]
    order = [*first, *(a for a in range(ndim) if a not in {*first, *last}), *last]
    moved = [list(pairs) for pairs in (contracting, batch)]
    for pairs in moved:
        pairs[side] = tuple(order.index(a) for a in pairs[side])
    return eqn.replace(params=eqn.params | {"dimension_numbers": tuple(map(tuple, moved))}), order


def _product(context: Context, eqn: JaxprEqn, w_is_rhs: bool, x: jax.Array, w) -> jax.Array:
    """x . w in the dtype of sums."""
    dtype = accumulator_dtype(_compat.output_type(eqn).dtype)
    names, w_names, out = name_axes(eqn, w_is_rhs)
    dot = partial(_dot, eqn, w_is_rhs, dtype)
    if not all(_is_apart(m, w_names, out) for m in w.multipliers):
        w = w.folded() or context.plain(w, eqn)
    if not isinstance(w, Perturbed) or not (w.is_low_rank or _is_split(w, w_names, out)):
        return dot(x, context.plain(w, eqn))
    context.kept(w, eqn)
    multipliers = [(m.values, tuple(w_names[a] for a in m.axes)) for m in w.multipliers]
    for values, along in multipliers:
        x = x if set(along) <= set(out) else _scaled(x, names, values, along)
    result = _unscaled(context, eqn, w_is_rhs, x, w)
    for values, along in multipliers:
        result = _scaled(result, out, values, along) if set(along) <= set(out) else result
    return result


def _unscaled(context: Context, eqn: JaxprEqn, w_is_rhs: bool, x: jax.Array, w) -> jax.Array:
    """x . w without multipliers."""
    dtype = accumulator_dtype(_compat.output_type(eqn).dtype)
    names, w_names, out = name_axes(eqn, w_is_rhs)
    dot = partial(_dot, eqn, w_is_rhs, dtype)
    if w.is_masked:
        summed = [n for n, name in zip(w.shape, w_names, strict=True) if name in names]

        def times(x, w):
            return _times_masked(x, names, w, w_names, out, _precision(eqn))

        w = context.waiting(w.replace(multipliers=()), [x])
        return _by_members(eqn, dot, times, x, w, rows=x.size // math.prod(summed))
    noise = _times_factors(x.astype(dtype), names, w, w_names, out, _precision(eqn))
    pieces = _pieces(context, w, w_names, out) if context.is_fixed(x) else None
    if pieces is not None:
        # All directions share the products with the pieces, so nobody needs the concatenation.
        parts, axis = pieces
        base = lax.concatenate([dot(x, part) for part in parts], axis)
    elif eqn.params["dimension_numbers"][1][0] and w.base.size <= x.size:
        base = dot(x, shared_in_turn(w.base, noise))  # it copies x, which the noise needs no longer
    else:
        base = dot(x, w.base)
    if context.is_body:
        base = row_major(base)
    result = base + noise
    context.sums[id(result)] = result, base, noise
    return result


def _dot(eqn: JaxprEqn, w_is_rhs: bool, dtype, x: jax.Array, w: jax.Array) -> jax.Array:
    """The equation in this dtype, with x first, as in the product with a factor: one layout serves both."""
    params = eqn.params | {"preferred_element_type": dtype}
    if w_is_rhs or params["out_sharding"] is not None:
        return lax.dot_general(*((x, w) if w_is_rhs else (w, x)), **params)
    names, w_names, out = name_axes(eqn, w_is_rhs)
    params["dimension_numbers"] = [dims[::-1] for dims in params["dimension_numbers"]]
    shared = [n for n in out if n in names and n in w_names]
    order = [*dict.fromkeys([*shared, *(n for n in names if n in out), *out])]
    return lax.transpose(lax.dot_general(x, w, **params), [order.index(n) for n in out])


def _pieces(context: Context, w: Perturbed, w_names, out) -> tuple[list[jax.Array], int] | None:
    """The bases whose concatenation is the base, and its axis in the product, if that keeps it."""
    eqn, operands = context.origin(w)
    if eqn is None or eqn.primitive.name != "concatenate":
        return None
    name = w_names[eqn.params["dimension"]]
    bases = [piece.base if isinstance(piece, Perturbed) else piece for piece in operands]
    return (bases, out.index(name)) if name in out else None


@rule("reduce_sum", deferred=True)
def reduce_sum(context: Context, eqn: JaxprEqn, w: Perturbed) -> list:
    """Sums of low-rank weights, factor by factor; sums of squares as products of w with itself."""
    gone = eqn.params["axes"]
    if w.is_squared and not any(set(m.axes) & set(gone) for m in w.multipliers):
        context.kept(w, eqn)
        names = tuple(range(w.base.ndim))
        out = tuple(n for n in names if n not in gone)
        w = w.replace(is_squared=False, base=w.base.astype(accumulator_dtype(w.base.dtype)))
        result = jnp.sum(lax.square(w.base), gone)
        result += _noise_of_two(w, names, w, names, out, result.dtype, None)
        for m in w.multipliers:
            result = _scaled(result, out, m.values, m.axes)
        return [result.astype(_compat.output_type(eqn).dtype)]
    folded = w.folded() if w.is_low_rank else None
    if folded is None:
        return context.fallback(eqn, w)
    context.kept(w, eqn)
    (base,) = _compat.bind(eqn, folded.base)
    dtype = accumulator_dtype(base.dtype)
    folded = folded.replace(factors=tuple(f.astype(dtype) for f in folded.factors))
    seen = folded.viewed(partial(_summed, w.base.ndim, gone))
    return [cast(Perturbed, seen).replace(base=base)]  # a sum mixes no axes


def _summed(ndim: int, gone, axes, takes_new) -> Part:
    kept = [a for a in range(ndim) if a not in gone]
    inner = tuple(axes.index(a) for a in gone if a in axes)
    return Part(tuple(kept.index(a) for a in axes if a in kept), lambda x: jnp.sum(x, inner))


def _is_apart(multiplier: Multiplier, w_names, out) -> bool:
    """Whether the axes of a multiplier are all summed over, or none is."""
    return len({w_names[a] in out for a in multiplier.axes}) <= 1


def _scaled(x: jax.Array, names: tuple, values: jax.Array, along: tuple) -> jax.Array:
    """`x` times values along some of its named axes."""
    order = sorted(range(len(along)), key=lambda i: names.index(along[i]))
    dims = [names.index(along[i]) for i in order]
    return x * lax.broadcast_in_dim(lax.transpose(values, order), x.shape, dims).astype(x.dtype)


def _of_two(context: Context, eqn: JaxprEqn, lhs: Perturbed, rhs: Perturbed):
    """The product of two low-rank weights: low-rank again where it sums over one factor of each.

    (v + A B') (w + C D') = v w + A ((w + C D')' B)' + (v C) D'
    """
    context.kept(lhs, eqn)
    context.kept(rhs, eqn)
    lhs_names, rhs_names, out = name_axes(eqn, True)
    dtype, precision = accumulator_dtype(_compat.output_type(eqn).dtype), _precision(eqn)
    (base,) = _compat.bind(eqn, lhs.base, rhs.base)
    met = {*lhs_names} & {*rhs_names}
    b, c = _side_with(lhs, lhs_names, met), _side_with(rhs, rhs_names, met)
    if b is None or c is None or met & {*out}:
        noise = _noise_of_two(lhs, lhs_names, rhs, rhs_names, out, dtype, precision)
        return (base.astype(dtype) + noise).astype(base.dtype)
    v, w = lhs.base.astype(dtype), rhs.base.astype(dtype)
    (A, _), (B, b_names) = (_named(lhs, s, lhs_names, "rank", dtype) for s in (1 - b, b))
    (D, d_names), (C, c_names) = (_named(rhs, s, rhs_names, "other", dtype) for s in (1 - c, c))
    rows, columns = tuple(out[: A.ndim - 1]), tuple(out[A.ndim - 1 :])
    small = rhs.scale.astype(dtype) * contract(B, b_names, C, c_names, ("rank", "other"), precision)
    right = contract(B, b_names, w, rhs_names, (*columns, "rank"), precision)
    right += contract(D, d_names, small, ("rank", "other"), (*columns, "rank"), precision)
    left = contract(v, lhs_names, C, c_names, (*rows, "other"), precision)
    like = max(lhs, rhs, key=lambda x: x.base.size)
    like = like.replace(is_activation=lhs.is_activation or rhs.is_activation)
    terms = [Term(lhs.scale, (A, right)), Term(rhs.scale, (left, D))]
    return total(like, base, (0,) * len(rows) + (1,) * len(columns), terms)


def _of_all_entries(context: Context, eqn: JaxprEqn, like: jax.Array, lhs, rhs) -> list:
    """The product of two vectors, at least one of them flat: that of the arrays before the reshape."""
    operands = []
    for x in (lhs, rhs):
        if isinstance(x, Perturbed) and x.flat and x.base.shape == like.shape:
            x = x.replace(flat=None)
        elif len(x.shape) == 1 and not (isinstance(x, Perturbed) and x.flat):
            x = lax.reshape(context.plain(x, eqn), like.shape)
        else:
            return context.fallback(eqn, *map(context.unflat, (lhs, rhs)))
        operands.append(x)
    every = tuple(range(like.ndim))
    params = eqn.params | {"dimension_numbers": ((every, every), ((), ()))}
    types = map(base_of, operands)
    closed = jax.make_jaxpr(lambda a, b: lax.dot_general(a, b, **params))(*types)
    return context.interpret(closed.jaxpr, closed.consts, operands)


def _side_with(x: Perturbed, names, wanted: set) -> int | None:
    """The side whose axes have exactly these names."""
    return next((s for s in (0, 1) if {names[a] for a in x.axes(s)} == wanted), None)


def _named(x: Perturbed, side: int, names, rank: str, dtype) -> tuple[jax.Array, tuple]:
    """A factor, and the names of its axes."""
    return x.factors[side].astype(dtype), (*(names[a] for a in x.axes(side)), rank)


def _noise_of_two(v, v_names, w, w_names, out, dtype, precision) -> jax.Array:
    """The product of two low-rank weights less that of their bases."""
    noise = _times_factors(v.base.astype(dtype), v_names, w, w_names, out, precision)
    noise += _times_factors(w.base.astype(dtype), w_names, v, v_names, out, precision)
    pairs = [
        _named(x, side, names, rank, dtype)
        for x, names, rank in ((v, v_names, "rank"), (w, w_names, "other"))
        for side in (0, 1)
    ]
    number = {n: i for i, n in enumerate(dict.fromkeys(n for _, names in pairs for n in names))}
    factors = [part for f, names in pairs for part in (f, [number[n] for n in names])]
    both = jnp.einsum(*factors, [number[n] for n in out], precision=precision)
    return noise + (v.scale * w.scale).astype(dtype) * both


def _largest_low_rank(*operands) -> Perturbed | None:
    """The operand whose noise is kept."""
    candidates = [
        x for x in operands if isinstance(x, Perturbed) and (x.is_low_rank or x.is_masked)
    ]
    return max(candidates, key=lambda x: x.base.size, default=None)


def name_axes(
    eqn: JaxprEqn, w_is_rhs: bool
) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """Names for the axes of x, of w and of x . w; axes that meet share a name."""
    contracting, batch = eqn.params["dimension_numbers"]
    ranks = [len(cast(jax.core.ShapedArray, v.aval).shape) for v in eqn.invars]
    lhs, rhs = ([f"{side}{i}" for i in range(n)] for side, n in zip("lr", ranks, strict=True))
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
    precision,
) -> jax.Array:
    """scale * x . (A B'): first with the factor that sums over more entries, for a small result."""
    factors, dtype = [], x.dtype
    for side, factor in enumerate(w.factors):
        axes = w.axes(side)
        summed = [w.shape[a] for a in axes if w_names[a] not in out]
        factors.append((factor.astype(dtype), (*(w_names[a] for a in axes), "rank"), summed))
    (a, a_names, _), (b, b_names, _) = sorted(factors, key=lambda f: -math.prod(f[2]))
    wanted = {*out, *b_names}
    left = tuple(n for n in dict.fromkeys((*names, *a_names)) if n in wanted)
    is_batched = {*names} & {*w_names} & {*out}  # XLA copies x then: noise comes first
    if a.size * _MANY_ROWS > x.size and not is_batched:  # XLA would store the factor from the start
        a = in_turn(a, x)
    thin = w.scale.astype(dtype) * contract(x, names, a, a_names, left, precision)
    return contract(thin, left, b, b_names, out, precision)


def _is_large(w: Perturbed, x: jax.Array, eqn: JaxprEqn) -> bool:
    """Whether x times one factor, and its product, have fewer entries than the weight."""
    entries = x.size + _compat.output_type(eqn).size
    return entries * w.factors[0].shape[-1] <= w.base.size


def _by_members(
    eqn: JaxprEqn, dot: Callable, times: Callable, x: jax.Array, w: Perturbed, rows: int
) -> jax.Array:
    """x . w for masked noise. Under `vmap` on a CPU, one member after another if each has many rows.

    A member then makes its weight, in less time than a second product of its rows.
    """
    arrays, _, rebuild = shards_of(w, PartitionSpec())
    dtype = accumulator_dtype(_compat.output_type(eqn).dtype)

    def alone(x, arrays):
        w = rebuild(arrays)
        return dot(x.astype(dtype), materialise(w.replace(base=w.base.astype(dtype))))

    def twice(x, arrays):
        w = rebuild(arrays)
        return dot(x, w.base) + times(x.astype(dtype), w)

    together = twice if _is_large(w, x, eqn) else alone
    run = jax.custom_batching.custom_vmap(together)

    @run.def_vmap
    def batch(size, batched, *args):
        batched = tuple(batched)
        at_once = jax.vmap(together, jax.tree.map(lambda b: 0 if b else None, batched))
        if not batched[0] or rows < _MANY_ROWS or w.base.size <= _SMALL:
            return at_once(*args), True
        in_loop = partial(_one_by_one, alone, size, batched)
        return lax.platform_dependent(*args, cpu=in_loop, default=at_once), True

    return with_derivative(run, together)(x, arrays)


def _one_by_one(fun: Callable, size: int, batched: tuple, x: jax.Array, *args) -> jax.Array:
    """`jax.vmap` in a loop, whose result waits for x: XLA would hold its zeros from the start."""

    def of(i):
        return fun(*jax.tree.map(lambda b, a: a[i] if b else a, batched, (x, *args)))

    def body(i, result):
        return lax.dynamic_update_index_in_dim(result, of(i), i, 0)

    one = jax.eval_shape(of, 0)
    return lax.fori_loop(0, size, body, in_turn(jnp.zeros((size, *one.shape), one.dtype), x))


def _is_split(w: Perturbed, w_names, out) -> bool:
    """Whether each factor of masked noise multiplies x, or the product."""
    sides = ({w_names[a] in out for a in w.axes(side)} for side in (0, 1))
    return w.is_masked and all(len(kept) <= 1 for kept in sides)


def _times_masked(x: jax.Array, names, w: Perturbed, w_names, out, precision) -> jax.Array:
    """scale * x . (whole * A B'): x times one factor, the product with `whole`, times the other."""
    after, dtype = [], x.dtype
    x = jnp.broadcast_to(x[..., None], (*x.shape, w.factors[0].shape[-1]))
    for side in (0, 1):
        factor, along = _named(w, side, w_names, "rank", dtype)
        if {*along[:-1]} & {*out}:
            after.append((factor, along))
        else:
            x = _scaled(x, (*names, "rank"), factor, along)
    whole = cast(jax.Array, w.whole).astype(dtype)
    result = contract(x, (*names, "rank"), whole, w_names, (*out, "rank"), precision)
    for factor, along in after:
        result = _scaled(result, (*out, "rank"), factor, along)
    return w.scale.astype(dtype) * jnp.sum(result, -1)
