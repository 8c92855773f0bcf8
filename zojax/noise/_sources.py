"""Sources: signs, normals, uniforms, and one entry alone. Contract: `Source`."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import lax

from zojax.noise._bits import (
    column_numbers,
    counters,
    mix,
    random_sign,
    row_keys,
    shifted,
    standard_normal,
    uniform,
)
from zojax.noise._seeds import Seed
from zojax.noise._source import EndlessSource, Source

LONG = 2**15  # entries above which a vector gets its own loop


@dataclass(frozen=True)
class Words:
    """One word of 32 bits for each entry. A subclass defines `value`, from words to float32."""

    seed: Seed

    @staticmethod
    def value(word: jax.Array) -> jax.Array:
        raise NotImplementedError

    def rows(self, rows: jax.Array, width: int) -> jax.Array:
        return self.span(rows, 0, width)

    def span(self, rows: jax.Array, start: int, count: int) -> jax.Array:
        shape = rows.shape + (count,)
        lead = tuple(range(rows.ndim))
        keys = row_keys(self.seed, rows)
        if start:
            keys = shifted(keys, start)
        wide = [lax.broadcast_in_dim(k, shape, lead) for k in keys]
        return self.value(mix(wide, column_numbers(keys[0], count)))

    def columns(self, rows: jax.Array, columns: jax.Array, width: int) -> jax.Array:
        del width
        return self.value(mix(row_keys(self.seed, rows), columns))


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Signs(Words):
    """Independent signs, +1 or -1 with probability 1/2."""

    value = staticmethod(random_sign)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Normals(Words):
    """Independent standard normals: the quantiles of 24-bit uniforms."""

    value = staticmethod(standard_normal)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Uniforms(Words):
    """Independent uniforms, multiples of 2^-24 in [0, 1): for decisions, not for directions."""

    value = staticmethod(uniform)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class OneHot:
    """One at (row, column), zero elsewhere; all zero where the leaf has no such row."""

    row: jax.Array
    column: jax.Array

    def rows(self, rows: jax.Array, width: int) -> jax.Array:
        return self.columns(*counters(rows, width), width)

    def columns(self, rows: jax.Array, columns: jax.Array, width: int) -> jax.Array:
        del width
        return ((rows == self.row) & (columns == self.column)).astype(jnp.float32)


def columns_of_rows(
    source: Source, rows: jax.Array, width: int, start: int, count: int
) -> jax.Array:
    """`count` columns of whole rows, from column `start` on: float32 of shape rows.shape + (count,)."""
    if isinstance(source, EndlessSource):  # a slice of all columns would not vectorise
        return source.span(rows, start, count)
    return lax.slice_in_dim(source.rows(rows, width), start, start + count, axis=rows.ndim)
