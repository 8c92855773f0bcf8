"""Moves of integers: noise whose entries are whole numbers, for weights of 4 or 8 bits.

A byte holds one entry of 8 bits, or two of 4 bits: the digits of a number to base 16. The moves of its
digits are one number to the same base.
"""

import math
from dataclasses import dataclass, field
from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np

from zojax.noise._bits import random_sign, scramble
from zojax.noise._objects import Wrapped, row_noise
from zojax.noise._seeds import Seed
from zojax.noise._sources import Words

_LARGEST = {4: 7, 8: 127}  # a move that keeps the digits of a byte apart


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Moves(Words):
    """sigma times standard normals, stochastically rounded to whole numbers: floor(sigma z + u).

    An entry has 4 or 8 `bits`. A byte of two entries has the move of its lower half plus 16 times that of
    its upper half. Moves are at most 7 or 127.
    """

    sigma: float = field(metadata={"static": True})
    bits: int = field(metadata={"static": True})

    def value(self, word: jax.Array) -> jax.Array:  # type: ignore[override]  # it reads sigma
        words = [word] if self.bits == 8 else [word, scramble(word ^ np.uint32(0x5BD1E995))]
        moves = [self._move(w) for w in words]
        return moves[0] if self.bits == 8 else moves[0] + 16 * moves[1]

    def _move(self, word: jax.Array) -> jax.Array:
        """The highest bit is the sign. The size is the number of bounds above the other 31 bits."""
        sign, rest = random_sign(word), word & np.uint32(2**31 - 1)
        bounds = _bounds(self.sigma, _LARGEST[self.bits])
        return sum((jnp.where(rest < b, sign, 0) for b in bounds), jnp.zeros_like(sign))


@lru_cache
def _bounds(sigma: float, most: int) -> list[np.uint32]:
    """2^31 times the probabilities that a move has size 1 or more, 2 or more, and so on up to `most`."""

    def above(t: float) -> float:  # the integral of P(sigma z > s) over s from t on
        x = t / sigma
        density = math.exp(-x * x / 2) / math.sqrt(2 * math.pi)
        return sigma * density - t * math.erfc(x / math.sqrt(2)) / 2

    shares = [2 * (above(k - 1) - above(k)) for k in range(1, most + 1)] if sigma else []
    return [np.uint32(n) for n in (round(2**31 * share) for share in shares) if n]


# Halves of bytes are lists of arrays: XLA would make the noise of a stacked array again for each half.


def digits_of(moves: jax.Array, bits: int) -> list[jax.Array]:
    """The moves of the entries of each byte, the lower half first."""
    if bits == 8:
        return [moves]
    upper = jnp.round(moves / 16)
    return [moves - 16 * upper, upper]


def entries_of(array: jax.Array, bits: int) -> list[jax.Array]:
    """The entries of each byte as float32, the lower half first."""
    parts = [array] if bits == 8 else [array & np.uint8(15), array >> np.uint8(4)]
    return [part.astype(jnp.float32) for part in parts]


def bytes_of(entries: list[jax.Array], dtype) -> jax.Array:
    """The inverse of `entries_of`."""
    whole = [part.astype(jnp.int32).astype(dtype) for part in entries]
    return whole[0] if len(whole) == 1 else whole[0] | whole[1] << np.uint8(4)


def moved(entries: list[jax.Array], moves: list[jax.Array], dtype) -> list[jax.Array]:
    """Entries plus moves; an entry that would leave its range stays."""
    least, most = (0, 15) if len(entries) == 2 else (jnp.iinfo(dtype).min, jnp.iinfo(dtype).max)
    totals = [part + by for part, by in zip(entries, moves, strict=True)]
    return [
        jnp.where((total >= least) & (total <= most), total, part)
        for total, part in zip(totals, entries, strict=True)
    ]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class LatticeNoise(Wrapped):
    """Moves of an array of bytes. `zojax.implicit` moves each entry that stays in its range."""

    bits: int = field(metadata={"static": True})


def lattice_noise(leaf: jax.Array, seed: Seed, sigma: float) -> LatticeNoise:
    """Moves of a whole leaf: uint8 has two entries of 4 bits in a byte, int8 one of 8 bits.

    >>> q = jnp.array([[0x10, 0x7F]], jnp.uint8)
    >>> z = lattice_noise(q, jnp.zeros(2, jnp.uint32), 0.0)
    >>> z.dense()
    Array([[0., 0.]], dtype=float32)
    """
    bits = 4 if leaf.dtype == jnp.uint8 else 8
    return LatticeNoise(row_noise(Moves(seed, sigma, bits), leaf.shape), bits)
