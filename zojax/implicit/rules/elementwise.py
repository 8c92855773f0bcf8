"""Elementwise primitives: what they do to the base and to the factors of low-rank noise.

A product with numbers along some axes waits for the matrix product that reads it: x @ (w * s) is
(x @ w) * s. So all directions share w, even where each has an s of its own (weight normalisation, or one
number: spectral normalisation).
"""

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import JaxprEqn

from zojax._numerics import accumulator_dtype
from zojax.implicit import _compat
from zojax.implicit._low_rank import term_along, term_of, total
from zojax.implicit._perturbed import Multiplier, Perturbed, base_of, unperturbed
from zojax.implicit._registry import describe, rule
from zojax.implicit._walk import Context


@rule("copy", "stop_gradient", elementwise=True, deferred=True)
@rule(
    *("device_put", "name", "optimization_barrier", "pvary", "reshard", "sharding_constraint"),
    deferred=True,
)
def identity(context: Context, eqn: JaxprEqn, *operands) -> list:
    """The identity on values (copies, names, shardings, barriers), applied to the base."""
    del context
    bases = _compat.bind(eqn, *map(base_of, operands))
    return [
        x.replace(base=base) if isinstance(x, Perturbed) else base
        for x, base in zip(operands, bases, strict=True)
    ]


@rule("convert_element_type", elementwise=True, deferred=True)
def convert(context: Context, eqn: JaxprEqn, operand: Perturbed) -> list:
    """Casts the base but not the noise, which may be smaller than the new dtype resolves.

    A cast to 8 bits or fewer is quantisation, a part of the function, so it acts on perturbed values. So
    does a cast of integers.
    """
    dtype = eqn.params["new_dtype"]
    is_narrow = not jnp.issubdtype(dtype, jnp.floating) or jnp.finfo(dtype).bits < 16
    if is_narrow or operand.bits is not None:
        return context.fallback(eqn, operand)
    return identity(context, eqn, operand)


@rule("mul", elementwise=True, broadcasts=True, product=True, deferred=True)
@rule("div", elementwise=True, broadcasts=True, deferred=True)
@rule("neg", elementwise=True, deferred=True)
def multiply(context: Context, eqn: JaxprEqn, *operands) -> list:
    """-w, w * s and w / s, for a number s or for numbers along some axes of low-rank w; w * w."""
    is_quotient = eqn.primitive.name == "div"
    if len(operands) == 2 and operands[0] is operands[1]:
        return (
            context.fallback(eqn, *operands) if is_quotient else square(context, eqn, operands[0])
        )
    w = _matrix(eqn, operands[:1] if is_quotient else operands)
    if w is None:
        scaled = _dequantised(context, eqn, *operands) if len(operands) == 2 else None
        return context.fallback(eqn, *operands) if scaled is None else [scaled]
    operands = tuple(context.plain(x, eqn) if _is_part(x, w) else x for x in operands)
    s = next((x for x in operands if x is not w), None)  # none for -w
    axes = _varying(context, s)
    is_fixed = s is None or context.is_fixed(s)
    if axes and is_fixed and _takes_masks(w) and w.side_of(axes) is None:
        context.kept(w, eqn)
        return [w.masked(_factor(eqn, w, s), _base(eqn, w, operands))]
    waits = w.is_low_rank or w.is_masked or w.is_squared
    if isinstance(s, Perturbed) or (axes and not (waits and len(axes) < _rank(w))):
        return context.fallback(eqn, *operands)
    context.kept(w, eqn)
    if axes or w.is_squared or (waits and not is_fixed):
        return [_times_along(eqn, w, operands, s, axes, is_fixed)]
    scales = (w.scale if x is w else _along(x, ()).astype(w.scale.dtype) for x in operands)
    scale = getattr(lax, eqn.primitive.name)(*scales)
    return [w.replace(base=_base(eqn, w, operands), scale=scale)]


def _times_along(
    eqn: JaxprEqn,
    w: Perturbed,
    operands,
    s: jax.Array | None,
    axes: tuple[int, ...],
    is_fixed: bool,
) -> Perturbed:
    """w times numbers along some axes, which wait for the product that reads it."""
    factor = _factor(eqn, w, None if s is None else _along(s, axes))
    scaled = w.times(Multiplier(axes, factor))
    # Numbers that all directions share go into the base, with the user's rounding.
    is_shared = s is not None and is_fixed and not (w.is_squared or w.multipliers)
    folded = scaled.folded() if is_shared else None
    return scaled if folded is None else folded.replace(base=_base(eqn, w, operands))


def _factor(eqn: JaxprEqn, w: Perturbed, s: jax.Array | None) -> jax.Array:
    """What the equation multiplies w by: s, 1 / s or -1."""
    dtype = accumulator_dtype(w.base.dtype)
    if s is None:
        return -jnp.ones((), dtype)
    return 1 / s.astype(dtype) if eqn.primitive.name == "div" else s.astype(dtype)


def _base(eqn: JaxprEqn, w: Perturbed, operands) -> jax.Array:
    """The equation of the base, beside arrays without noise."""
    (base,) = _compat.bind(eqn, *(w.base if x is w else x for x in operands))
    return base


@rule("square", elementwise=True, product=True, deferred=True)
@rule("integer_pow", elementwise=True, product=True, deferred=True)
def square(context: Context, eqn: JaxprEqn, w: Perturbed) -> list:
    """w ** 2 waits for its sum: a norm needs products with the factors only."""
    folded = w.folded() if w.is_low_rank and not w.is_vector and not w.is_activation else None
    if folded is None or eqn.params.get("y", 2) != 2:
        return context.fallback(eqn, *[w for _ in eqn.invars])
    context.kept(w, eqn)
    return [folded.replace(is_squared=True)]


@rule("add", "sub", elementwise=True, broadcasts=True)
@rule("add_any", elementwise=True)
def add(context: Context, eqn: JaxprEqn, *operands) -> list:
    """Sums and differences of low-rank weights, and of a weight and an array."""
    w = _matrix(eqn, operands)
    others = [x for x in operands if x is not w]
    is_difference = eqn.primitive.name == "sub"
    if is_difference and not others:
        return context.fallback(eqn, *operands)  # w - w is 0
    if w is not None and w.is_masked and others and context.is_fixed(*others):
        context.kept(w, eqn)
        scale = -w.scale if is_difference and w is operands[1] else w.scale
        return [w.replace(base=_base(eqn, w, operands), scale=scale)]
    if w is None or not w.is_low_rank or w.is_activation:
        return context.fallback(eqn, *operands)
    operands = tuple(context.plain(x, eqn) if _is_part(x, w) else x for x in operands)
    bases, terms = [], []
    for x in operands:
        base, term, axes = base_of(x), None, _varying(context, x)
        if isinstance(x, Perturbed):
            term = term_of(context, eqn, x, w.sides)
        elif w.side_of(axes) is not None and not context.is_fixed(x):
            # Each direction has numbers of its own, but all share the base.
            values = Multiplier(axes, _along(x, axes)).over(w.base.ndim)
            base, term = jnp.zeros_like(x), term_along(values, w.shape, w.sides)
        if isinstance(x, Perturbed) and term is None:
            return context.fallback(eqn, *operands)
        is_subtracted = is_difference and x is operands[1]
        bases.append(base)
        terms += [] if term is None else [term.negated() if is_subtracted else term]
    context.kept(w, eqn)
    (base,) = _compat.bind(eqn, *bases)
    return [total(w, base, w.sides, terms)]


@rule("select_n", elementwise=True, broadcasts=True)
def select(context: Context, eqn: JaxprEqn, which, *cases) -> list:
    """A mask of rows or columns, of one weight or between several; a mask of single entries."""
    w = _matrix(eqn, cases)
    axes = _varying(context, which)
    if w is None or isinstance(which, Perturbed):
        return context.fallback(eqn, which, *cases)
    side = w.side_of(axes) if w.is_low_rank else None
    others = [x for x in cases if x is not w]
    if side is None and _takes_masks(w) and context.is_fixed(which, *others):
        context.kept(w, eqn)
        base = _base(eqn, w, (which, *cases))
        chosen = [which == i for i, x in enumerate(cases) if x is w]
        return [w.masked(sum(chosen).astype(accumulator_dtype(w.base.dtype)), base)]
    if side is None:
        return context.fallback(eqn, which, *cases)
    number = _along(which, axes).astype(int)
    terms = []
    for i, x in enumerate(cases):
        if not isinstance(x, Perturbed):
            continue
        term = term_of(context, eqn, x, w.sides)
        if term is None:
            return context.fallback(eqn, which, *cases)
        mask = w.on_factor(Multiplier(axes, number == i), side)
        terms.append(term.with_factor(side, term.factors[side] * mask))
    context.kept(w, eqn)
    (base,) = _compat.bind(eqn, which, *map(base_of, cases))
    return [total(w, base, w.sides, terms)]


def _matrix(eqn: JaxprEqn, operands) -> Perturbed | None:
    """The first perturbed operand of the size of the output, vectors aside."""
    shape = _compat.output_type(eqn).shape
    for x in operands:
        if isinstance(x, Perturbed) and x.shape == shape and not x.is_vector and x.bits is None:
            return x
    return None


def _takes_masks(w: Perturbed) -> bool:
    return w.is_factored and not (w.is_squared or w.is_activation)


def _is_part(x, w: Perturbed) -> bool:
    return isinstance(x, Perturbed) and x.base.size < w.base.size


def _rank(x) -> int:
    """The number of axes of more than one entry."""
    return sum(n != 1 for n in x.shape)


def _varying(context: Context, x) -> tuple[int, ...]:
    """The axes along which an array varies, as far as its equation tells."""
    eqn, operands = context.origin(x)
    if eqn is not None and eqn.primitive.name == "broadcast_in_dim":
        dims = eqn.params["broadcast_dimensions"]
        return tuple(dims[a] for a in _varying(context, operands[0]))
    return tuple(a for a, n in enumerate(getattr(x, "shape", ())) if n != 1)


def _along(x, axes) -> jax.Array:
    """An array that varies along some axes only, without the others."""
    x = jnp.asarray(x)
    limits = [n if a in axes else 1 for a, n in enumerate(x.shape)]
    part = lax.slice(x, [0] * x.ndim, limits)
    return lax.squeeze(part, [a for a in range(x.ndim) if a not in axes])


def _dequantised(context: Context, eqn: JaxprEqn, *operands) -> Perturbed | None:
    """Integers q times perturbed scales s. Those of columns wait: x @ (q * s) is (x @ q) * s."""
    q, s = sorted(operands, key=lambda x: isinstance(x, Perturbed))
    shape = _compat.output_type(eqn).shape
    if isinstance(q, Perturbed) or q.shape != shape or not _are_integers(context, q):
        return None
    axes = _varying(context, s)
    if not axes or len(axes) == _rank(q) or eqn.primitive.name != "mul":
        return None
    if _takes_masks(s) and not s.is_vector and context.is_fixed(q):  # scales of groups
        context.kept(s, eqn)
        base = _base(eqn, s, operands)
        return _broadcast(s, shape).masked(q.astype(accumulator_dtype(base.dtype)), base)
    values = _along(context.plain(s, eqn), axes).astype(accumulator_dtype(q.dtype))
    sides = tuple(int(a in axes) for a in range(len(shape)))
    return unperturbed(s, q, sides).times(Multiplier(axes, values))


def _broadcast(x: Perturbed, shape: tuple[int, ...]) -> Perturbed:
    """The factors, with axes of this shape."""

    def grown(side: int) -> jax.Array:
        factor = x.factors[side]
        return jnp.broadcast_to(factor, (*(shape[a] for a in x.axes(side)), factor.shape[-1]))

    return x.replace(factors=(grown(0), grown(1)))


def _are_integers(context: Context, x) -> bool:
    """Whether an array is a cast of integers, maybe less a zero point, maybe viewed."""
    eqn, operands = context.origin(x)
    if eqn is None or isinstance(x, Perturbed):
        return False
    if eqn.primitive.name == "convert_element_type":
        return jnp.issubdtype(_compat.operand_type(eqn).dtype, jnp.integer)
    is_view = eqn.primitive.name in ("sub", "reshape", "transpose", "slice", "squeeze")
    return is_view and _are_integers(context, operands[0])


describe("max", "min", "pow", elementwise=True, broadcasts=True)
describe(
    *"abs and ceil clamp cos eq erf exp exp2 expm1 floor ge gt is_finite le log log1p log2".split(),
    *"logistic lt ne not one_minus_square or round rsqrt sign sin sqrt tanh xor".split(),
    elementwise=True,
)
