"""Moves of integers: noise whose entries are whole numbers, for weights of 4 or 8 bits.

A byte holds one entry of 8 bits, or two of 4 bits: the digits of a number to base 16. The moves of its
digits are one number to the same base.
"""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from zojax.noise._bits import scramble, standard_normal, uniform
from zojax.noise._objects import Wrapped, row_noise
from zojax.noise._seeds import Seed
from zojax.noise._sources import Words

_LARGEST = {4: 7, 8: 127}  # a move that keeps the digits of a byte apart


@partial(jax.tree_util.register_dataclass, data_fields=["seed", "sigma"], meta_fields=["bits"])
@dataclass(frozen=True)
class Moves(Words):
    """sigma times standard normals, stochastically rounded to whole numbers: floor(sigma z + u).

    An entry has 4 or 8 `bits`. A byte of two entries has the move of its lower half plus 16 times that of
    its upper half. Moves are at most 7 or 127.
    """

    sigma: jax.Array | float
    bits: int

    def value(self, word: jax.Array) -> jax.Array:  # type: ignore[override]  # sigma is data
        digits = [word] if self.bits == 8 else [word, scramble(word ^ np.uint32(0x5BD1E995))]
        most = _LARGEST[self.bits]
        moves = [
            jnp.clip(
                jnp.floor(self.sigma * standard_normal(w) + uniform(scramble(w + np.uint32(1)))),
                -most,
                most,
            )
            for w in digits
        ]
        return moves[0] if self.bits == 8 else moves[0] + 16 * moves[1]


def digits_of(moves: jax.Array, bits: int) -> jax.Array:
    """The moves of the entries of each byte, on a new first axis."""
    if bits == 8:
        return moves[None]
    upper = jnp.round(moves / 16)
    return jnp.stack([moves - 16 * upper, upper])


def entries_of(array: jax.Array, bits: int) -> jax.Array:
    """The entries of each byte as float32, on a new first axis."""
    parts = [array] if bits == 8 else [array & np.uint8(15), array >> np.uint8(4)]
    return jnp.stack(parts).astype(jnp.float32)


def bytes_of(entries: jax.Array, dtype, bits: int) -> jax.Array:
    """The inverse of `entries_of`."""
    if bits == 8:
        return entries[0].astype(jnp.int32).astype(dtype)
    lower, upper = entries.astype(jnp.int32).astype(dtype)
    return lower | upper << np.uint8(4)


def moved(entries: jax.Array, moves: jax.Array, dtype, bits: int) -> jax.Array:
    """Entries plus moves; an entry that would leave its range stays."""
    least, most = (0, 15) if bits == 4 else (jnp.iinfo(dtype).min, jnp.iinfo(dtype).max)
    total = entries + moves
    return jnp.where((total >= least) & (total <= most), total, entries)


@partial(jax.tree_util.register_dataclass, data_fields=["noise"], meta_fields=["bits"])
@dataclass(frozen=True)
class LatticeNoise(Wrapped):
    """Moves of an array of bytes. `zojax.implicit` moves each entry that stays in its range."""

    bits: int


def lattice_noise(leaf: jax.Array, seed: Seed, sigma: jax.Array | float) -> LatticeNoise:
    """Moves of a whole leaf: uint8 has two entries of 4 bits in a byte, int8 one of 8 bits.

    >>> q = jnp.array([[0x10, 0x7F]], jnp.uint8)
    >>> z = lattice_noise(q, jnp.zeros(2, jnp.uint32), 0.0)
    >>> z.dense()
    Array([[0., 0.]], dtype=float32)
    """
    bits = 4 if leaf.dtype == jnp.uint8 else 8
    return LatticeNoise(row_noise(Moves(seed, sigma, bits), leaf.shape), bits)
