"""Matrices of 4-bit or 8-bit integers in blocks with scales: the types Q4_0, Q4_1 and Q8_0 of GGUF."""

import dataclasses
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

BLOCK = 32  # weights with one scale


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["integers", "scales", "offsets"],
    meta_fields=["zero", "transposed", "dtype"],
)
@dataclass(frozen=True)
class Quantized:
    r"""A matrix, or a stack of matrices, in blocks of 32 integers q along the last axis.

    .. math::
        w = s\,(q - z) + m

    It replaces an array in a model's parameters. An index selects matrices or rows. Arithmetic of
    `jax.numpy` makes the array where it is read, so a scan over layers holds one layer at a time.

    Attributes:
      integers: `(..., n, b, 16)` uint8 for b blocks of 4 bits: byte i has entry i in its lower half and
        entry i + 16 in its upper half. Or `(..., n, b, 32)` int8.
      scales: s, `(..., n, b)`; float16 in a file.
      offsets: m, as `scales`, or None for zero.
      zero: z, an int.
      transposed: whether the matrix is `(32 b, n)` instead of `(n, 32 b)`.
      dtype: of the array.

    >>> w = Quantized(jnp.arange(32, dtype=jnp.int8).reshape(1, 1, 32), jnp.full((1, 1), 0.5), None)
    >>> w.shape, float((w @ jnp.ones(32))[0])
    ((1, 32), 248.0)
    """

    integers: Any
    scales: Any
    offsets: Any
    zero: int = 0
    transposed: bool = False
    dtype: DTypeLike = jnp.float32

    @property
    def shape(self) -> tuple[int, ...]:
        *stack, rows, blocks = self.scales.shape
        matrix = rows, BLOCK * blocks
        return (*stack, *(matrix[::-1] if self.transposed else matrix))

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __getitem__(self, index) -> "Quantized":
        """Matrices of a stack, or rows of a matrix that is not transposed."""
        return jax.tree.map(lambda x: x[index], self)

    def __jax_array__(self) -> jax.Array:
        q = self.integers
        if q.dtype == jnp.uint8:
            halves = q[..., None, :] >> np.array([[0], [4]], np.uint8) & np.uint8(15)
            q = halves.reshape(*q.shape[:-1], BLOCK)
        wide = q.astype(jnp.float32) - self.zero
        array = wide * self.scales[..., None].astype(jnp.float32)
        if self.offsets is not None:
            array = array + self.offsets[..., None].astype(jnp.float32)
        array = array.reshape(*array.shape[:-2], -1).astype(self.dtype)
        return jnp.swapaxes(array, -1, -2) if self.transposed else array

    def __matmul__(self, other) -> jax.Array:
        return jnp.asarray(self) @ other

    def replace(self, **changes) -> "Quantized":
        """A copy with other fields."""
        return dataclasses.replace(self, **changes)
