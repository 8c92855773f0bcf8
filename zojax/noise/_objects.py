"""Noise objects: random access by rows, stored values, a mask, low rank. Contract: `Noise`."""

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from zojax._barriers import made_once, waiting, zero_from
from zojax.noise._factored import Access, Factored, Outer, of_values, scaled
from zojax.noise._noise import Noise, StructuredNoise
from zojax.noise._ranges import Range, as_array
from zojax.noise._seeds import Seed
from zojax.noise._source import EndlessSource, Source
from zojax.noise._sources import LONG, Signs, columns_of_rows


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class RowNoise:
    """scale * source, seen through row numbers.

    A view of leading axes is the same view of the row numbers, which are 1/width of the leaf. Slices,
    gathers, transposes and reshapes of noise therefore cost and store nothing.
    """

    source: Source
    row: jax.Array | Range  # uint32, the leading axes
    scale: jax.Array | float
    width: int | None = field(metadata={"static": True})  # the last axis; None for a scalar
    # Several readers share one copy of the values, see `share`.
    shared: bool = field(default=False, metadata={"static": True})

    @property
    def shape(self) -> tuple[int, ...]:
        return self.row.shape + (() if self.width is None else (self.width,))

    def dense(self) -> jax.Array:
        values = self.source.rows(as_array(self.row), 1 if self.width is None else self.width)
        return scaled(values if self.width is not None else values[..., 0], self.scale)

    def factored(self) -> Factored:
        has_columns = self.width is not None
        sides = (0,) * self.row.ndim + (1,) * has_columns
        columns = Range(0, (self.width,) if self.width is not None else ())
        join = Access(self.source, self.scale, self.width or 1, self.shared)
        return Factored(sides, (self.row, columns), join, None)


def row_noise(source: Source, shape: tuple[int, ...], scale: jax.Array | float = 1.0) -> RowNoise:
    """Noise of a whole leaf."""
    return RowNoise(source, Range(0, shape[:-1]), scale, shape[-1] if shape else None)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class StoredNoise:
    """Stored values, for small or given directions."""

    values: jax.Array

    @property
    def shape(self) -> tuple[int, ...]:
        return self.values.shape

    def dense(self) -> jax.Array:
        return self.values

    def factored(self) -> Factored:
        return of_values(self.values)


@dataclass(frozen=True)
class Wrapped:
    """Noise around other noise, whose shape, entries and factors it hands on."""

    noise: Noise

    @property
    def shape(self) -> tuple[int, ...]:
        return self.noise.shape

    def dense(self) -> jax.Array:
        return self.noise.dense()

    def factored(self) -> Factored:
        return factored(self.noise)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class MaskedNoise(Wrapped):
    """mask * noise, elementwise."""

    mask: jax.Array

    def dense(self) -> jax.Array:
        return jnp.where(self.mask, self.noise.dense(), 0)

    def factored(self) -> Factored:
        form = factored(self.noise)
        return form._replace(whole=self.mask if form.whole is None else self.mask * form.whole)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class ScaledNoise(Wrapped):
    """scale * noise, for an array of the leaf's shape."""

    scale: jax.Array

    def dense(self) -> jax.Array:
        return self.scale.astype(jnp.float32) * self.noise.dense()

    def factored(self) -> Factored:
        form, scale = factored(self.noise), self.scale.astype(jnp.float32)
        return form._replace(whole=scale if form.whole is None else scale * form.whole)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class MixedNoise:
    """noise_weight * noise + values_weight * values, for an array of the leaf's shape."""

    noise: Noise
    values: jax.Array
    noise_weight: jax.Array
    values_weight: jax.Array

    @property
    def shape(self) -> tuple[int, ...]:
        return self.noise.shape

    def dense(self) -> jax.Array:
        values = self.values_weight * self.values.astype(jnp.float32)
        return self.noise_weight * self.noise.dense() + values


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class LowRankNoise:
    """The sum over rank of outer products: entry (*i, *j) is sum_k left[k, *i] right[k, *j].

    The small factors are stored. `left` carries 1 / sqrt(rank).
    """

    left: jax.Array
    right: jax.Array

    @property
    def shape(self) -> tuple[int, ...]:
        return self.left.shape[1:] + self.right.shape[1:]

    def dense(self) -> jax.Array:
        return Outer()(*self._factors())  # a written-out sum has the same bits on every mesh

    def factored(self) -> Factored:
        sides = (0,) * (self.left.ndim - 1) + (1,) * (self.right.ndim - 1)
        return Factored(sides, self._factors(), Outer(), None)

    def _factors(self) -> tuple[jax.Array, jax.Array]:
        return jnp.moveaxis(self.left, 0, -1), jnp.moveaxis(self.right, 0, -1)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class LateNoise(Wrapped):
    """Noise that is zero in the first `first` entries of its first axis, an int32 scalar."""

    first: jax.Array


def factored(noise: Noise) -> Factored:
    """The factors of any noise object; the values of noise without structure."""
    if isinstance(noise, StructuredNoise):
        return noise.factored()
    return of_values(noise.dense())


def low_rank_noise(
    source: Callable[[Seed], Source],
    seed: Seed,
    parts: list[tuple[tuple[int, ...], tuple[int, ...]]],
    rank: int,
) -> list[LowRankNoise]:
    """Noise of some leaves, each given by the shapes before and after its cut.

    One array holds all factors of a direction: one kernel to compile and to run, for any number of leaves.
    Among several devices each factor is made alone. Slices of one array would hand the sharding of one leaf
    to all others.
    """
    shapes = [part for pair in parts for part in pair]
    sizes = [math.prod(shape) for shape in shapes]
    *starts, total = np.cumsum([0, *sizes]).tolist()
    places, whole = list(zip(starts, sizes, strict=True)), row_noise(source(seed), (rank, total))
    if jax.device_count() > 1:
        drawn = [_columns(whole, start, size) for start, size in places]
    else:
        kept = jnp.int8 if type(whole.source) is Signs else jnp.float32  # a sign fits a byte
        once = made_once(whole.dense().astype(kept))
        drawn = [lax.slice_in_dim(once, start, start + size, axis=1) for start, size in places]
        drawn = [x.astype(jnp.float32) for x in drawn]
    factors = [lax.reshape(x, (rank, *shape)) for x, shape in zip(drawn, shapes, strict=True)]
    scale = np.float32(1 / np.sqrt(rank))
    return [LowRankNoise(scale * a, b) for a, b in zip(factors[::2], factors[1::2], strict=True)]


def _columns(noise: RowNoise, start: int, size: int) -> jax.Array:
    values = columns_of_rows(noise.source, as_array(noise.row), noise.width or 1, start, size)
    return made_once(scaled(values, noise.scale))


def tie(noise: Any, array: jax.Array) -> Any:
    """The same tree of noise, made to depend on an array, for any values of it.

    XLA computes everything that depends on a seed alone as early as it can: before a loop, or for all
    layers at once, and keeps it. Tied noise stays where it is read.
    """
    zero = zero_from(array)

    def tied(z):
        if isinstance(z, LowRankNoise):
            return dataclasses.replace(z, left=waiting(z.left, array))
        return dataclasses.replace(z, row=z.row ^ zero)

    return _of_leaves(tied, (RowNoise, LowRankNoise), noise)


def share(noise: Any) -> Any:
    """The same tree of noise, for several readers at once: one of them makes the values for all."""
    return _of_leaves(lambda z: dataclasses.replace(z, shared=True), RowNoise, noise)


def _of_leaves(change: Callable, kinds: type | tuple[type, ...], noise: Any) -> Any:
    """`change` applied to each noise of these kinds in a tree, also inside other noise objects."""

    def is_changed(z):
        return isinstance(z, kinds)

    return jax.tree.map(lambda z: change(z) if is_changed(z) else z, noise, is_leaf=is_changed)


def of_even_length(noise: Noise) -> Noise:
    """A long vector of odd length with one entry more; other noise as it is.

    XLA's CPU backend vectorises no long loop of odd length, which takes ten times as long. Cut the entry
    off behind `_barriers.settle`: XLA does not compute entries that a slice drops.
    """
    if not isinstance(noise, RowNoise) or noise.width is None or noise.row.ndim:
        return noise
    if noise.width <= LONG or noise.width % 2 == 0 or not isinstance(noise.source, EndlessSource):
        return noise
    return dataclasses.replace(noise, width=noise.width + 1)
