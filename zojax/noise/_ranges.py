"""Row and column numbers of a leaf: a range until a view picks some of them, then an array."""

import math
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Range:
    """The numbers start, start + 1, ... in a given shape. The reader computes them, so none are stored."""

    start: jax.Array | int
    shape: tuple[int, ...] = field(metadata={"static": True})

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def _first(self) -> jax.Array:
        return lax.convert_element_type(self.start, jnp.uint32)

    def array(self) -> jax.Array:
        numbers = lax.iota(jnp.uint32, math.prod(self.shape))
        return lax.reshape(numbers + self._first, self.shape)

    def __getitem__(self, i: jax.Array) -> "Range":
        """Slice i of the first axis, a uint32 that may be traced."""
        shape = self.shape[1:]
        return Range(self._first + i * np.uint32(math.prod(shape)), shape)

    def __xor__(self, zero: jax.Array) -> "Range":
        """The same numbers, made to depend on `zero`."""
        return Range(self._first ^ zero, self.shape)


def as_array(numbers: jax.Array | Range) -> jax.Array:
    return numbers.array() if isinstance(numbers, Range) else numbers
