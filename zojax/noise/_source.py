"""The contract of a source: how the rows of a leaf are filled with random entries."""

from typing import Protocol, runtime_checkable

import jax


class Source(Protocol):
    """Fills the rows of a leaf: entry (row, column) is a fixed function of its two numbers.

    The rows of a leaf are numbered in C order over its leading axes; a column is an index of its last axis.
    Both methods must give an entry the same bits. A source must be a pytree: `register_dataclass` of
    `jax.tree_util` makes one. The direction scales its entries to E zz' = I.

    >>> import jax, jax.numpy as jnp, zojax
    >>> from dataclasses import dataclass
    >>> @jax.tree_util.register_dataclass
    ... @dataclass(frozen=True)
    ... class Wave:
    ...     phase: jax.Array
    ...     def rows(self, rows, width):
    ...         return self.columns(*zojax.noise.counters(rows, width), width)
    ...     def columns(self, rows, columns, width):
    ...         return jnp.sqrt(2) * jnp.sin(self.phase + rows * width + columns)
    >>> zojax.noise.row_noise(Wave(jnp.float32(0)), (2, 3)).dense().shape
    (2, 3)
    """

    def rows(self, rows: jax.Array, width: int) -> jax.Array:
        """Whole rows: float32 of shape rows.shape + (width,), for uint32 row numbers."""
        ...

    def columns(self, rows: jax.Array, columns: jax.Array, width: int) -> jax.Array:
        """Single entries (row, column), for uint32 arrays of equal shape, of rows of `width` entries."""
        ...


@runtime_checkable
class EndlessSource(Source, Protocol):
    """A source whose rows have no end. The library uses `span` where a source has it.

    A span alone is cheaper than a slice of the whole row, and may go past the last column.
    """

    def span(self, rows: jax.Array, start: int, count: int) -> jax.Array:
        """`count` columns from column `start` on: float32 of shape rows.shape + (count,)."""
        ...
