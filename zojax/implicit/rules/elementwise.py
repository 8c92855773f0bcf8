"""Elementwise primitives: identities, casts, and products with a number keep the noise implicit."""

import jax.numpy as jnp
from jax import lax
from jax.extend.core import JaxprEqn

from zojax.implicit import _compat
from zojax.implicit._perturbed import Perturbed
from zojax.implicit._registry import describe, rule
from zojax.implicit._walk import Context


@rule("copy", elementwise=True)
@rule("name", "optimization_barrier", "pvary", "reshard", "sharding_constraint")
def identity(context: Context, eqn: JaxprEqn, *operands) -> list:
    """The identity on values (copies, names, shardings, barriers), applied to the base."""
    del context
    bases = _compat.bind(eqn, *(x.base if isinstance(x, Perturbed) else x for x in operands))
    return [
        x.replace(base=base) if isinstance(x, Perturbed) else base
        for x, base in zip(operands, bases, strict=True)
    ]


@rule("convert_element_type", elementwise=True)
def convert(context: Context, eqn: JaxprEqn, operand: Perturbed) -> list:
    """Casts the base but not the noise, which may be smaller than the new dtype resolves.

    A cast to 8 bits or fewer is quantisation, a part of the function, so it acts on perturbed values.
    """
    dtype = eqn.params["new_dtype"]
    if not jnp.issubdtype(dtype, jnp.floating) or jnp.finfo(dtype).bits < 16:
        return context.fallback(eqn, operand)
    return identity(context, eqn, operand)


@rule("mul", elementwise=True, broadcasts=True, product=True)
@rule("neg", elementwise=True)
def multiply(context: Context, eqn: JaxprEqn, *operands) -> list:
    """w * s and -w, for one number s: multiplies the base and the scale of the noise."""
    w, *others = sorted(operands, key=lambda x: not isinstance(x, Perturbed))
    if w.is_vector or any(isinstance(x, Perturbed) or jnp.ndim(x) for x in others):
        return context.fallback(eqn, *operands)
    context.kept(w, eqn)
    dtype = w.scale.dtype
    (base,) = _compat.bind(eqn, *(w.base if x is w else x for x in operands))
    scales = (w.scale if x is w else lax.convert_element_type(x, dtype) for x in operands)
    return [w.replace(base=base, scale=getattr(lax, eqn.primitive.name)(*scales))]


@rule("div", elementwise=True, broadcasts=True)
def divide(context: Context, eqn: JaxprEqn, dividend, divisor) -> list:
    """w / s, for one number s."""
    if not isinstance(dividend, Perturbed):
        return context.fallback(eqn, dividend, divisor)
    return multiply(context, eqn, dividend, divisor)


describe("add", "sub", "max", "min", "pow", "select_n", elementwise=True, broadcasts=True)
describe("square", "integer_pow", elementwise=True, product=True)
describe(
    *"abs add_any and ceil clamp cos eq erf exp exp2 expm1 floor ge gt is_finite le log log1p".split(),
    *"logistic lt ne not or round rsqrt sign sin sqrt tanh xor".split(),
    elementwise=True,
)
