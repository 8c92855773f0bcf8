"""The common form of all noise: two factors, joined entry by entry.

The axes of the array are dealt to two sides. An entry joins one entry of each side's factor:

    noise[i..., j...] = whole[i..., j...] * join(left[i...], right[j...])

Random-access noise has row and column numbers as factors, and `Access` hashes a pair of numbers. Low-rank
noise has vectors of length `rank`, and `Outer` takes their dot product. A view of some axes (a slice, a
gather, a transpose) is the same view of the small factors.
"""

import math
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple, TypeAlias, cast

import jax
from jax import lax

from zojax._contract import contract
from zojax.noise._ranges import Range, as_array
from zojax.noise._source import EndlessSource, Source
from zojax.noise._sources import columns_of_rows

Factor: TypeAlias = jax.Array | Range


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Access:
    """Random access: the factors are row and column numbers."""

    source: Source
    scale: jax.Array | float
    width: int = field(metadata={"static": True})
    shared: bool = field(default=False, metadata={"static": True})  # as in `RowNoise`
    waits: bool = field(default=False, metadata={"static": True})  # see `Perturbed.after`
    hidden: ClassVar[int] = 0  # trailing axes of a factor beside the axes of the array

    @property
    def is_endless(self) -> bool:
        """Whether there are columns beyond the last."""
        return isinstance(self.source, EndlessSource)

    def __call__(self, left: Factor, right: Factor) -> jax.Array:
        left = as_array(left)
        if isinstance(right, Range):  # whole rows are cheaper than their entries one by one
            start, count = cast(int, right.start), math.prod(right.shape)
            values = columns_of_rows(self.source, left, self.width, start, count)
            values = lax.reshape(values, left.shape + right.shape)
        else:
            shape = left.shape + right.shape
            rows = lax.broadcast_in_dim(left, shape, range(left.ndim))
            columns = lax.broadcast_in_dim(right, shape, range(left.ndim, len(shape)))
            values = self.source.columns(rows, columns, self.width)
        return scaled(values, self.scale)


@jax.tree_util.register_static
@dataclass(frozen=True)
class Outer:
    """Low rank: the dot product over the factors' last axis, the rank."""

    hidden: ClassVar[int] = 1

    def __call__(self, left: jax.Array, right: jax.Array) -> jax.Array:
        rows = tuple(range(left.ndim - 1))
        columns = tuple(range(len(rows), len(rows) + right.ndim - 1))
        return contract(left, (*rows, "rank"), right, (*columns, "rank"), rows + columns)


class Factored(NamedTuple):
    """whole * join(left, right), the structure of a noise object.

    Attributes:
      sides: for each axis, 0 if the left factor has it and 1 if the right one does.
      factors: (left, right), or (None, None) without a join. A factor has the axes of its side, in order;
        for `Outer` a last axis more, the rank.
      join: `Access`, `Outer`, or None if `whole` is all there is.
      whole: a mask or stored values, with all axes; None if there are none.
    """

    sides: tuple[int, ...]
    factors: tuple[Factor | None, Factor | None]
    join: Access | Outer | None
    whole: jax.Array | None


def of_values(values: jax.Array) -> Factored:
    """Noise without structure: its values are stored."""
    return Factored((0,) * values.ndim, (None, None), None, values)


def scaled(values: jax.Array, scale: jax.Array | float) -> jax.Array:
    """scale * values; no product for a scale that is the float 1."""
    return values if isinstance(scale, float) and scale == 1.0 else scale * values
