"""Perturbed arrays: base + scale * noise, where the noise is known but not computed.

The noise has two factors (`zojax.noise.Factored`), and each axis of the array belongs to one of them. A
view acts on the base and on the small factors alike. A view that mixes axes of both factors has no such
form, and `Perturbed.viewed` returns None for it.
"""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import JaxprEqn

from zojax import _barriers
from zojax import noise as noises
from zojax._numerics import accumulator_dtype
from zojax._trees import is_float
from zojax.noise import Access, Outer, Range

_SMALL_STACK = 2**21  # entries; the biases of a model of 30 billion parameters have fewer


class Part(NamedTuple):
    """The effect of a view on an array that has some of the operand's axes.

    Attributes:
      outs: the output axes made from these axes, ascending.
      apply: the view of the array itself; None if it changes nothing.
      numbers: the same view of a `Range`, if the result is a `Range` again; else None.
    """

    outs: tuple[int, ...]
    apply: Callable[[jax.Array], jax.Array] | None
    numbers: Callable[[Range], Range] | None = None


class Loop(NamedTuple):
    """A loop that holds weights.

    Attributes:
      eqn: the loop.
      begun: the number of arrays made before it.
    """

    eqn: JaxprEqn
    begun: int


class Multiplier(NamedTuple):
    """Numbers that multiply an array along some of its axes: `values` has these `axes`, ascending."""

    axes: tuple[int, ...]
    values: jax.Array

    def over(self, ndim: int) -> jax.Array:
        """The values with `ndim` axes, of size 1 where they are constant."""
        return lax.expand_dims(self.values, [a for a in range(ndim) if a not in self.axes])


class PartOf(Protocol):
    """A view, restricted to some axes of its operand."""

    def __call__(self, axes: tuple[int, ...], takes_new: bool, /) -> Part | None:
        """The part of `axes`; new axes belong to it where `takes_new`. None if the view mixes axes."""
        ...


@dataclass(frozen=True)
class Perturbed:
    """base + scale * whole * join(left, right), where nothing but the base is an array of the full size.

    Low-rank noise may wait for a product: the array is then this sum, or its square, times `multipliers`.

    Attributes:
      name: of the parameter, for reports and errors.
      base: the unperturbed array.
      scale: mu, a scalar.
      sides: for each axis, 0 if the left factor has it and 1 if the right one does.
      factors: (left, right): row and column numbers, or low-rank factors; (None, None) without a join.
      join: makes entries of the factors; None for stored noise.
      whole: a mask or stored values, with all axes; None if there are none.
      is_activation: made by a lookup or a broadcast, so of the size of activations.
      held_by: the loop through which the perturbed array is kept.
      multipliers: of the sum or its square. Only rules with the property `deferred` see them.
      is_squared: the sum is squared. Only rules with the property `deferred` see it.
      bits: of an entry, for an array of integers, which move within their range; else None.
      first: the noise is zero in so many entries of the first axis; None if unknown.
      flat: the reshape to a vector across both factors, which waits for a product. Only rules with the
        property `flat` see it.
    """

    name: str
    base: jax.Array
    scale: jax.Array
    sides: tuple[int, ...]
    factors: tuple[Any, Any]  # `jax.Array`, `Range` or None, as the join takes them
    join: Access | Outer | None
    whole: jax.Array | None
    is_activation: bool = False
    held_by: Loop | None = None
    multipliers: tuple[Multiplier, ...] = ()
    is_squared: bool = False
    bits: int | None = None
    first: jax.Array | None = None
    flat: JaxprEqn | None = None

    @property
    def nbytes(self) -> int:
        return self.base.size * jnp.dtype(self.base.dtype).itemsize

    @property
    def shape(self) -> tuple[int, ...]:
        return self.base.shape if self.flat is None else (self.base.size,)

    @property
    def is_factored(self) -> bool:
        return isinstance(self.join, Outer)

    @property
    def is_low_rank(self) -> bool:
        is_sum = self.flat is None and not self.is_squared
        return self.is_factored and self.whole is None and is_sum

    @property
    def is_masked(self) -> bool:
        """Low-rank noise times numbers of its own for each entry."""
        return self.is_factored and self.whole is not None and not self.is_squared

    def masked(self, mask: jax.Array, base: jax.Array) -> "Perturbed":
        """Another base, and the noise times a mask."""
        mask = jnp.broadcast_to(mask, base.shape)
        return self.replace(base=base, whole=mask if self.whole is None else self.whole * mask)

    @property
    def has_row_numbers(self) -> bool:
        """Random-access noise, in which no row number stands for "no noise"."""
        return isinstance(self.join, Access) and self.whole is None

    @property
    def is_vector(self) -> bool:
        """At most one axis has more than one entry."""
        return sum(n != 1 for n in self.base.shape) <= 1

    @property
    def is_long_vector(self) -> bool:
        """One axis of random-access noise, evaluated alone, too long for a core's cache."""
        join = self.join
        if not isinstance(join, Access) or not isinstance(self.factors[1], Range) or self.bits:
            return False
        alone = join.is_endless and not join.shared and self.whole is None
        return alone and self.sides == (1,) and self.base.size > noises.LONG

    @property
    def is_stack_of_vectors(self) -> bool:
        """Random-access noise of small vectors, one for each iteration of a loop."""
        is_plain = isinstance(self.join, Access) and len(self.shape) == 2
        return is_plain and self.base.size <= _SMALL_STACK

    def axes(self, side: int) -> tuple[int, ...]:
        return tuple(a for a, s in enumerate(self.sides) if s == side)

    def replace(self, **changes) -> "Perturbed":
        return dataclasses.replace(self, **changes)

    def viewed(self, part_of: PartOf) -> "Perturbed | None":
        """The view of the noise, still on the old base. None if the view mixes axes of both sides."""
        left, right = part_of(self.axes(0), True), part_of(self.axes(1), False)
        everything = part_of(tuple(range(len(self.sides))), True)
        if left is None or right is None or everything is None:
            return None
        factors = tuple(
            _apply(p, f, self.join) for p, f in zip((left, right), self.factors, strict=True)
        )
        whole = _apply(everything, self.whole, None)
        rank = len(left.outs) + len(right.outs)
        sides = tuple(int(axis in right.outs) for axis in range(rank))
        multipliers = []
        for axes, values in self.multipliers:
            part = part_of(axes, False)
            if part is None:
                return None
            multipliers.append(Multiplier(part.outs, _apply(part, values, None)))
        return self.replace(
            sides=sides,
            factors=factors,
            whole=whole,
            multipliers=tuple(multipliers),
            first=None,
        )

    def folded(self) -> "Perturbed | None":
        """The same, with multipliers in the base and in the factors. None if one mixes both sides."""
        if not self.multipliers:
            return self
        dtype = accumulator_dtype(self.base.dtype)
        base = self.base.astype(dtype)
        factors = [f.astype(dtype) for f in self.factors]
        for multiplier in self.multipliers:
            base *= multiplier.over(base.ndim).astype(dtype)
            side = self.side_of(multiplier.axes)
            if side is None:
                return None
            factors[side] *= self.on_factor(multiplier, side).astype(dtype)
        return self.replace(
            base=base.astype(self.base.dtype), factors=tuple(factors), multipliers=()
        )

    def times(self, multiplier: Multiplier) -> "Perturbed":
        """The same times a multiplier."""
        others = tuple(m for m in self.multipliers if m.axes != multiplier.axes)
        for m in self.multipliers:
            if m.axes == multiplier.axes:
                multiplier = Multiplier(m.axes, m.values * multiplier.values)
        return self.replace(multipliers=(*others, multiplier))

    def side_of(self, axes: Sequence[int]) -> int | None:
        """The side that has all these axes; None if there is none."""
        return next((s for s in (0, 1) if set(axes) <= set(self.axes(s))), None)

    def on_factor(self, multiplier: Multiplier, side: int) -> jax.Array:
        """The values of a multiplier, with the axes of the factor that they multiply."""
        axes = self.axes(side)
        inner = Multiplier(tuple(axes.index(a) for a in multiplier.axes), multiplier.values)
        return inner.over(len(axes) + 1)

    def after(self, array: jax.Array) -> "Perturbed":
        """The same, but its noise waits for `array`."""
        left, right = self.factors
        if isinstance(self.join, Outer):
            return self.replace(factors=(_barriers.waiting(left, array), right))
        if self.join is None or self.join.shared or self.join.waits:
            return self
        rows = left ^ _barriers.zero_from(array)
        return self._joined_with(waits=True).replace(factors=(rows, right))

    def held(self, loop: Loop) -> "Perturbed":
        """The same, but its noise waits for nothing inside of the loop, so that XLA makes it before."""
        return self._joined_with(waits=True).replace(held_by=loop)

    def unshared(self) -> "Perturbed":
        """The same, but each reader makes the noise again."""
        return self._joined_with(shared=False)

    def _joined_with(self, **changes: Any) -> "Perturbed":
        """Random access with these changes; other noise as it is."""
        join = self.join
        join = dataclasses.replace(join, **changes) if isinstance(join, Access) else join
        return self.replace(join=join)


def perturb(name: str, base: jax.Array, scale: jax.Array, noise: noises.Noise) -> Perturbed:
    """base + scale * noise, for any noise object; integers take `noise.LatticeNoise`."""
    if tuple(noise.shape) != base.shape:
        raise ValueError(
            f"noise of {name} has shape {tuple(noise.shape)}, but the parameter has {base.shape}; "
            "draw it for these parameters."
        )
    bits = getattr(noise, "bits", None)
    if not is_float(base) and bits is None:
        raise ValueError(
            f"{name} has dtype {base.dtype}, which cannot be perturbed; "
            "put None in its place in noise."
        )
    first = getattr(noise, "first", None)
    return Perturbed(name, base, scale, *noises.factored(noise), bits=bits, first=first)


def base_of(x: Any) -> Any:
    """The base of a perturbed array; any other array itself."""
    return x.base if isinstance(x, Perturbed) else x


def unperturbed(like: Perturbed, base: jax.Array, sides: tuple[int, ...]) -> Perturbed:
    """An array with noise of rank 0, named as `like`."""
    shapes = [[n for n, s in zip(base.shape, sides, strict=True) if s == side] for side in (0, 1)]
    left, right = (jnp.zeros((*shape, 0), accumulator_dtype(base.dtype)) for shape in shapes)
    return Perturbed(like.name, base, like.scale, sides, (left, right), Outer(), None, True)


def _apply(part: Part, factor, join: Access | Outer | None):
    if part.apply is None or factor is None:
        return factor
    if isinstance(factor, Range):
        if part.numbers is not None:
            return part.numbers(factor)
        factor = factor.array()
    if join is not None and join.hidden:
        return jax.vmap(part.apply, -1, -1)(factor)
    return part.apply(factor)
