"""Perturbed arrays: base + scale * noise, where the noise is known but not computed.

Every noise kind that can be seen in parts has one form. The axes of the array are dealt to two
sides, and an entry joins one entry of each side's factor:

    noise[i..., j...] = join(left[i...], right[j...])

For random-access noise the factors are numbers, of rows and of columns, and `join` hashes them;
for low-rank noise they are vectors of length `rank`, and `join` is their dot product. A view of
some axes (a slice, a gather, a transpose) is that view of the factors, which are small. A view that
mixes axes of both sides has no such form, and is refused.
"""

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import PartitionSpec

from zojax import _barriers
from zojax import noise as noises
from zojax._contract import contract
from zojax._numerics import accumulator_dtype
from zojax._trees import is_float

_SMALL_STACK = 2**21  # entries; the biases of a model of 30 billion parameters have fewer


class Part(NamedTuple):
    """What a view does to an array that has only some of the operand's axes.

    `outs` are the output axes it makes, ascending; `apply` acts on the array (None leaves it as it
    is); `numbers` does the same to a plain range of numbers, where it stays one.
    """

    outs: tuple[int, ...]
    apply: Callable[[jax.Array], jax.Array] | None
    numbers: Callable[[noises.Range], noises.Range] | None = None


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["source", "scale"],
    meta_fields=["width", "shared", "waits"],
)
@dataclass(frozen=True)
class Access:
    """Random access: the factors are row and column numbers."""

    source: noises.Signs
    scale: jax.Array | float
    width: int
    shared: bool = False  # as in `RowNoise`
    waits: bool = False  # for an array, see `Perturbed.after`
    hidden = 0  # trailing axes of a factor that are no axes of the array

    @property
    def has_words(self) -> bool:
        """Whether there are columns beyond the last."""
        return isinstance(self.source, noises.Words)

    def __call__(
        self, left: jax.Array | noises.Range, right: jax.Array | noises.Range
    ) -> jax.Array:
        left = noises.as_array(left)
        if isinstance(right, noises.Range):  # whole rows are cheaper than their entries one by one
            count = math.prod(right.shape)
            values = noises.columns_of_rows(self.source, left, self.width, right.start, count)
            values = lax.reshape(values, left.shape + right.shape)
        else:
            shape = left.shape + right.shape
            rows = lax.broadcast_in_dim(left, shape, range(left.ndim))
            columns = lax.broadcast_in_dim(right, shape, range(left.ndim, len(shape)))
            values = self.source.columns(rows, columns, self.width)
        is_one = isinstance(self.scale, float) and self.scale == 1.0
        return values if is_one else self.scale * values


@jax.tree_util.register_static
@dataclass(frozen=True)
class Outer:
    """Low rank: the factors' last axis is the rank, and is summed over."""

    hidden = 1

    def __call__(self, left: jax.Array, right: jax.Array) -> jax.Array:
        rows = tuple(range(left.ndim - 1))
        columns = tuple(range(len(rows), len(rows) + right.ndim - 1))
        return contract(left, (*rows, "rank"), right, (*columns, "rank"), rows + columns)


@dataclass(frozen=True)
class Perturbed:
    """base + scale * whole * join(left, right): `sides[axis]` says whose factor has that axis.

    `whole` has all axes: a mask, or values that are stored; it is None where there is none, and
    `join` is None where there is nothing else. `is_activation`: a lookup or a broadcast made it, so
    that it has the size of activations, not of a parameter.
    """

    name: str
    base: jax.Array
    scale: jax.Array
    sides: tuple[int, ...]
    factors: tuple[jax.Array | noises.Range | None, jax.Array | noises.Range | None]
    join: Access | Outer | None
    whole: jax.Array | None
    is_activation: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        return self.base.shape

    @property
    def is_factored(self) -> bool:
        return isinstance(self.join, Outer)

    @property
    def is_low_rank(self) -> bool:
        return self.is_factored and self.whole is None

    @property
    def is_vector(self) -> bool:
        """At most one axis has more than one entry."""
        return sum(n != 1 for n in self.shape) <= 1

    @property
    def is_long_vector(self) -> bool:
        """One axis of random-access noise that is evaluated alone, too long for a core's cache."""
        is_plain = isinstance(self.join, Access) and isinstance(self.factors[1], noises.Range)
        alone = is_plain and self.join.has_words and not self.join.shared and self.whole is None
        return alone and self.sides == (1,) and self.base.size > noises.LONG

    @property
    def is_stack_of_vectors(self) -> bool:
        """Random-access noise of vectors that a loop takes one by one, all of them small."""
        is_plain = isinstance(self.join, Access) and len(self.shape) == 2
        return is_plain and self.base.size <= _SMALL_STACK

    def axes(self, side: int) -> tuple[int, ...]:
        return tuple(a for a, s in enumerate(self.sides) if s == side)

    def replace(self, **changes) -> "Perturbed":
        return dataclasses.replace(self, **changes)

    def viewed(self, part) -> "Perturbed | None":
        """The view, still on the old base; `part(axes, hosts_new_axes)` restricts it to some axes.

        None where the view mixes axes of both sides.
        """
        parts = [part(self.axes(0), True), part(self.axes(1), False)]
        everything = part(tuple(range(len(self.sides))), True)
        if None in parts or everything is None:
            return None
        factors = tuple(_apply(p, f, self.join) for p, f in zip(parts, self.factors, strict=True))
        whole = _apply(everything, self.whole, None)
        rank = sum(len(p.outs) for p in parts)
        sides = tuple(int(axis in parts[1].outs) for axis in range(rank))
        return self.replace(sides=sides, factors=factors, whole=whole)

    def unstacked(self) -> tuple[tuple, Callable]:
        """Arrays to slice along the first axis, and what makes their slices a slice of this."""
        side = self.sides[0]
        factor = self.factors[side]
        rows = factor if isinstance(factor, noises.Range) and side == 0 else None
        factor = noises.as_array(factor) if rows is None else lax.iota(jnp.uint32, rows.shape[0])

        def rebuild(slices: tuple) -> "Perturbed":
            base, sliced, whole = slices
            sliced = sliced if rows is None else rows[sliced]
            factors = (sliced, self.factors[1]) if side == 0 else (self.factors[0], sliced)
            return self.replace(base=base, sides=self.sides[1:], factors=factors, whole=whole)

        return (self.base, factor, self.whole), rebuild

    def sharded(self, spec: PartitionSpec) -> tuple[dict, dict, Callable]:
        """Arrays, their shardings, and what makes of their shards the shard of this."""
        axes = (*spec, *[None] * (len(self.shape) - len(spec)))
        hidden = [None] * (self.join.hidden if self.join else 0)
        of_side = [[axes[a] for a in self.axes(side)] for side in (0, 1)]
        arrays = {"base": self.base, "scale": self.scale}
        specs = {"base": spec, "scale": PartitionSpec()}
        if self.whole is not None:
            arrays["whole"], specs["whole"] = self.whole, spec
        for side, factor in enumerate(self.factors):
            if isinstance(factor, noises.Range) and (side == 0 or any(of_side[side])):
                factor = factor.array()
            if isinstance(factor, jax.Array):
                arrays[f"factor{side}"] = factor
                specs[f"factor{side}"] = PartitionSpec(*of_side[side], *hidden)
        join = jax.tree.flatten(self.join)
        arrays["join"], specs["join"] = join[0], PartitionSpec()

        def rebuild(shards: dict) -> "Perturbed":
            factors = tuple(shards.get(f"factor{s}", self.factors[s]) for s in (0, 1))
            kept = {k: shards[k] for k in ("base", "scale", "whole") if k in shards}
            return self.replace(join=join[1].unflatten(shards["join"]), factors=factors, **kept)

        return arrays, specs, rebuild

    def after(self, array: jax.Array) -> "Perturbed":
        """The same, whose noise cannot be generated before `array` is there."""
        if self.is_factored:
            left = _barriers.waiting(self.factors[0], array)
            return self.replace(factors=(left, self.factors[1]))
        if not isinstance(self.join, Access) or self.join.shared or self.join.waits:
            return self
        rows = self.factors[0] ^ _barriers.zero_from(array)
        join = dataclasses.replace(self.join, waits=True)
        return self.replace(factors=(rows, self.factors[1]), join=join)

    def materialise(self) -> jax.Array:
        """The array itself, computed in at least float32 and rounded once.

        The sum is taken with the left axes first, as noise is generated, and transposed after:
        XLA folds a transpose of the whole into the product that reads it.
        """
        dtype = accumulator_dtype(self.base.dtype)
        if self.is_long_vector:
            noise = self._noise_of_vector().astype(dtype)
            total = self.base.astype(dtype) + self.scale.astype(dtype) * noise
            return _barriers.settle_unless_cheap(total.astype(self.base.dtype))
        order = self.axes(0) + self.axes(1)
        noise = None
        if self.join is not None:
            noise = self.join(*(_cast(f, dtype) for f in self.factors)).astype(dtype)
        if self.whole is not None:
            whole = lax.transpose(self.whole, order).astype(dtype)
            noise = whole if noise is None else whole * noise
        if self.is_vector and self.join is not None:
            noise = _barriers.made_once(noise)
        base = lax.transpose(self.base, order)
        total = (base.astype(dtype) + self.scale.astype(dtype) * noise).astype(base.dtype)
        return lax.transpose(total, tuple(np.argsort(order).tolist()))

    def _noise_of_vector(self) -> jax.Array:
        """XLA's CPU backend vectorises no long loop of odd length: one entry more, then, and kept, since
        what is cut off would not be computed otherwise."""
        rows, columns = self.factors
        (n,) = columns.shape
        if n % 2 == 0:
            return self.join(rows, columns)
        return _barriers.settle(self.join(rows, noises.Range(columns.start, (n + 1,))))[:n]


def perturb(name: str, base: jax.Array, scale: jax.Array, noise) -> Perturbed:
    """base + scale * noise, for any noise object."""
    if tuple(noise.shape) != base.shape:
        raise ValueError(
            f"noise of {name} has shape {tuple(noise.shape)}, but the parameter has {base.shape}; "
            "draw it for these parameters."
        )
    if not is_float(base):
        raise ValueError(
            f"{name} has dtype {base.dtype}, which cannot be perturbed; "
            "put None in its place in noise."
        )
    whole = None
    if isinstance(noise, noises.MaskedNoise):
        whole, noise = noise.mask, noise.noise
    if isinstance(noise, noises.RowNoise):
        sides = (0,) * noise.row.ndim + (() if noise.width is None else (1,))
        columns = noises.Range(0, () if noise.width is None else (noise.width,))
        join = Access(noise.source, noise.scale, noise.width or 1, noise.shared)
        return Perturbed(name, base, scale, sides, (noise.row, columns), join, whole)
    if isinstance(noise, noises.LowRankNoise):
        sides = (0,) * (noise.left.ndim - 1) + (1,) * (noise.right.ndim - 1)
        factors = jnp.moveaxis(noise.left, 0, -1), jnp.moveaxis(noise.right, 0, -1)
        return Perturbed(name, base, scale, sides, factors, Outer(), whole)
    values = noise.dense() if whole is None else whole * noise.dense()
    return Perturbed(name, base, scale, (0,) * base.ndim, (None, None), None, values)


def _apply(part: Part, factor, join):
    if part.apply is None or factor is None:
        return factor
    if isinstance(factor, noises.Range):
        if part.numbers is not None:
            return part.numbers(factor)
        factor = factor.array()
    if join is not None and join.hidden:
        return jax.vmap(part.apply, -1, -1)(factor)
    return part.apply(factor)


def _cast(factor, dtype):
    """Factors of values are cast; numbers of rows and columns are left alone."""
    is_value = hasattr(factor, "dtype") and jnp.issubdtype(factor.dtype, jnp.floating)
    return factor.astype(dtype) if is_value else factor
