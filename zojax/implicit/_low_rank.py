"""Sums of low-rank noise: the factors of all terms, side by side along the rank."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from zojax._numerics import accumulator_dtype
from zojax.implicit._perturbed import Perturbed
from zojax.implicit._walk import Context


class Term(NamedTuple):
    """scale * left right', with the rank as the last axis of both factors."""

    scale: jax.Array
    factors: tuple[jax.Array, jax.Array]

    def negated(self) -> "Term":
        return Term(-self.scale, self.factors)

    def with_factor(self, side: int, factor: jax.Array) -> "Term":
        left, right = self.factors
        return Term(self.scale, (factor, right) if side == 0 else (left, factor))


def term_of(context: Context, eqn, x: Perturbed, sides: tuple[int, ...]) -> Term | None:
    """The noise of `x`, whose axes belong to `sides`. None if it has no such factors."""
    if x.is_low_rank and x.sides == sides:
        return Term(x.scale, x.factors)
    if x.is_low_rank and x.sides == tuple(1 - s for s in sides):
        return Term(x.scale, x.factors[::-1])
    if not x.is_vector:
        return None
    dtype = accumulator_dtype(x.base.dtype)
    noise = context.plain(x.replace(base=jnp.zeros(x.shape, dtype)), eqn)
    return term_along(noise, x.shape, sides)


def term_along(values: jax.Array, shape: tuple[int, ...], sides: tuple[int, ...]) -> Term | None:
    """An array, broadcast to a shape, as a term of rank 1. None if it varies along axes of both sides."""
    axes = [[a for a, s in enumerate(sides) if s == side] for side in (0, 1)]
    full = [tuple(shape[a] for a in own) for own in axes]
    for side in (0, 1):
        if all(values.shape[a] == 1 for a in axes[1 - side]):
            own = lax.reshape(values, [values.shape[a] for a in axes[side]])
            factor = jnp.broadcast_to(own, full[side])[..., None]
            factors = factor, jnp.ones((*full[1 - side], 1), values.dtype)
            return Term(jnp.ones((), values.dtype), factors if side == 0 else factors[::-1])
    return None


def total(like: Perturbed, base: jax.Array, sides: tuple[int, ...], terms: Sequence[Term]):
    """base + the sum of the terms, named as `like`; the base itself without terms."""
    if not terms:
        return base
    dtype = accumulator_dtype(base.dtype)
    scales = [t.scale.astype(dtype) for t in terms]
    lefts, rights = ([t.factors[side].astype(dtype) for t in terms] for side in (0, 1))
    scale = terms[0].scale
    if any(t.scale is not scale for t in terms):
        lefts = [s * a for s, a in zip(scales, lefts, strict=True)]
        scale = jnp.ones((), dtype)
    factors = lefts[0], rights[0]
    if len(terms) > 1:
        factors = lax.concatenate(lefts, lefts[0].ndim - 1), jnp.concatenate(rights, -1)
    return like.replace(base=base, scale=scale, sides=sides, factors=factors, multipliers=())
