"""Random-access noise: a direction is a function of a seed, never an array that is stored.

Entry (row, column) of a leaf comes from one Threefry-2x32-20 block (Salmon et al., 2011) whose key is
the leaf's seed and whose counter is (row, column); a row is one index of the leading axes, in C
order, a column one index of the last axis. Every part can therefore be generated alone, bit for bit
as in the whole:

    z[3:5] == noise.take(lambda rows: rows[3:5]).dense()

Signs are packed: one block makes 64 of them. The rounds of Threefry are written out in elementwise
operations so that XLA fuses noise into whatever reads it.

A noise object has `shape`, `dense()` (the values, float32) and `take(index)`, which applies an
indexing function of the leading axes without generating anything.
"""

import dataclasses
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = np.uint32(0x1BD11BDA)


# --- bits -------------------------------------------------------------------------------------


def threefry(seed, x0: jax.Array, x1: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Threefry-2x32-20 of counters (x0, x1), uint32 of equal shape, under a seed of two uint32.

    Written out: XLA fuses it into its consumer, so nothing is stored.
    """
    k0, k1 = seed
    schedule = (k1, k0 ^ k1 ^ _PARITY, k0)
    x0, x1 = x0 + k0, x1 + k1
    for group in range(5):
        for r in _ROTATIONS[group % 2]:
            x0 = x0 + x1
            x1 = ((x1 << np.uint32(r)) | (x1 >> np.uint32(32 - r))) ^ x0
        x0 = x0 + schedule[group % 3]
        x1 = x1 + schedule[(group + 1) % 3] + np.uint32(group + 1)
    return x0, x1


def threefry_rolled(seed, x0: jax.Array, x1: jax.Array) -> jax.Array:
    """The same words, of shape (..., 2, n) for counters (..., n), from a loop that XLA does not fuse.

    For packed signs: fused into the 32 entries that read each word, it would be hashed 32 times.
    Both words stay in one array, so that what reads them sees one operand.
    """
    k0, k1 = seed
    rotations = tuple(jnp.array(r, jnp.uint32) for r in _ROTATIONS)

    def group(i, carry):
        x, (a, b, c), (r, s) = carry
        x0, x1 = x[..., 0, :], x[..., 1, :]
        for j in range(4):
            x0 = x0 + x1
            x1 = ((x1 << r[j]) | (x1 >> (np.uint32(32) - r[j]))) ^ x0
        injected = x0 + a, x1 + b + lax.convert_element_type(i + 1, jnp.uint32)
        return jnp.stack(injected, axis=-2), (b, c, a), (s, r)

    start = jnp.stack([x0 + k0, x1 + k1], axis=-2)
    return lax.fori_loop(0, 5, group, (start, (k1, k0 ^ k1 ^ _PARITY, k0), rotations))[0]


def make_seed(key: jax.Array) -> jax.Array:
    """64 bits, as two uint32, of a key of any implementation."""
    return jax.random.bits(key, (2,), jnp.uint32)


def child_seeds(seed: jax.Array, index, count: int) -> jax.Array:
    """Seeds of `count` leaves of direction `index`: uint32 of shape (count, 2)."""
    leaf = lax.iota(jnp.uint32, count)
    index = jnp.broadcast_to(lax.convert_element_type(jnp.asarray(index), jnp.uint32), leaf.shape)
    return threefry_rolled((seed[0], seed[1]), index, leaf).T


def counters(rows: jax.Array, columns: int) -> tuple[jax.Array, jax.Array]:
    shape = rows.shape + (columns,)
    column = lax.broadcasted_iota(jnp.uint32, shape, rows.ndim)
    return lax.broadcast_in_dim(rows, shape, tuple(range(rows.ndim))), column


def _unit_sign(bit: jax.Array) -> jax.Array:
    """+1 for an even, -1 for an odd word: the low bit becomes the sign bit of 1.0."""
    word = np.uint32(0x3F800000) | (bit << np.uint32(31))
    return lax.bitcast_convert_type(word, jnp.float32)


# --- what fills a row ---------------------------------------------------------------------------


@partial(jax.tree_util.register_dataclass, data_fields=["seed"], meta_fields=[])
@dataclass(frozen=True)
class Signs:
    """Independent signs, +1 or -1 with probability 1/2."""

    seed: jax.Array

    def rows(self, rows: jax.Array, width: int) -> jax.Array:
        """float32 of shape rows.shape + (width,)."""
        blocks = -(-width // 64)
        words = threefry_rolled((self.seed[0], self.seed[1]), *counters(rows, blocks))
        words = lax.reshape(words, rows.shape + (2 * blocks,))  # column // 32 -> word
        shape = rows.shape + (2 * blocks, 32)
        shift = lax.broadcasted_iota(jnp.uint32, shape, rows.ndim + 1)
        bits = lax.broadcast_in_dim(words, shape, tuple(range(rows.ndim + 1))) >> shift
        signs = lax.reshape(_unit_sign(bits), rows.shape + (64 * blocks,))
        return lax.slice_in_dim(signs, 0, width, axis=rows.ndim)

    def columns(self, rows: jax.Array, columns: jax.Array, width: int) -> jax.Array:
        """The entries (row, column), for uint32 arrays of equal shape: any part of a row alone."""
        blocks = np.uint32(-(-width // 64))
        word = columns >> np.uint32(5)
        second = word >= blocks
        w0, w1 = threefry(
            (self.seed[0], self.seed[1]), rows, jnp.where(second, word - blocks, word)
        )
        return _unit_sign(jnp.where(second, w1, w0) >> (columns & np.uint32(31)))


@partial(jax.tree_util.register_dataclass, data_fields=["seed"], meta_fields=[])
@dataclass(frozen=True)
class Normals:
    """Independent standard normals: the inverse distribution function of 23-bit uniforms."""

    seed: jax.Array

    def rows(self, rows: jax.Array, width: int) -> jax.Array:
        """float32 of shape rows.shape + (width,)."""
        return self.columns(*counters(rows, width), width)

    def columns(self, rows: jax.Array, columns: jax.Array, width: int) -> jax.Array:
        """The entries (row, column), for uint32 arrays of equal shape: any part of a row alone."""
        del width
        word, _ = threefry((self.seed[0], self.seed[1]), rows, columns)
        # 23 random mantissa bits in [1, 2), moved to the odd multiples of 2^-23 in (-1, 1):
        # symmetric, and never the infinite ends.
        mantissa = np.uint32(0x3F800000) | (word >> np.uint32(9))
        uniform = lax.bitcast_convert_type(mantissa, jnp.float32) - np.float32(1)
        uniform = np.float32(2) * uniform - np.float32(1 - 2.0**-23)
        return np.float32(np.sqrt(2)) * lax.erf_inv(uniform)


@partial(jax.tree_util.register_dataclass, data_fields=["row", "column"], meta_fields=[])
@dataclass(frozen=True)
class OneHot:
    """One at (row, column), zero elsewhere; all zero where the leaf has no such row."""

    row: jax.Array
    column: jax.Array

    def rows(self, rows: jax.Array, width: int) -> jax.Array:
        """float32 of shape rows.shape + (width,)."""
        return self.columns(*counters(rows, width), width)

    def columns(self, rows: jax.Array, columns: jax.Array, width: int) -> jax.Array:
        """The entries (row, column), for uint32 arrays of equal shape."""
        del width
        return ((rows == self.row) & (columns == self.column)).astype(jnp.float32)


# --- noise of a leaf ------------------------------------------------------------------------------


@partial(
    jax.tree_util.register_dataclass, data_fields=["source", "row", "scale"], meta_fields=["width"]
)
@dataclass(frozen=True)
class RowNoise:
    """scale * source, seen through an array of row numbers.

    A view of leading axes is the same view of the row numbers, which are 1/width of the leaf:
    slicing, gathering, transposing or reshaping noise costs and stores nothing.
    """

    source: Signs | Normals | OneHot
    row: jax.Array  # uint32, the leading axes
    scale: jax.Array | float
    width: int | None  # the last axis; None for a scalar

    @property
    def shape(self) -> tuple[int, ...]:
        return self.row.shape + (() if self.width is None else (self.width,))

    def dense(self) -> jax.Array:
        values = self.source.rows(self.row, 1 if self.width is None else self.width)
        values = values if self.width is not None else values[..., 0]
        return (
            values if isinstance(self.scale, float) and self.scale == 1.0 else self.scale * values
        )

    def take(self, index) -> "RowNoise":
        return RowNoise(self.source, index(self.row), self.scale, self.width)


def tie(noise, offset: jax.Array):
    """The same noise, made to depend on `offset`, a float that is never NaN.

    In a loop over offsets the noise of a direction is invariant, and XLA would compute it before the
    loop and keep all of it. Seeds that depend on the iteration, as far as it can tell, leave the noise
    where it is read.
    """
    salt = lax.convert_element_type(offset != offset, jnp.uint32)

    def salted(z):
        if not isinstance(z, RowNoise):
            return z
        source = jax.tree.map(lambda x: x ^ salt if x.dtype == jnp.uint32 else x, z.source)
        return dataclasses.replace(z, source=source)

    return jax.tree.map(salted, noise, is_leaf=lambda z: isinstance(z, RowNoise))


def row_noise(source, shape: tuple[int, ...], scale=1.0) -> RowNoise:
    """Noise of a whole leaf."""
    lead = shape[:-1]
    count = int(np.prod(lead, dtype=np.int64))
    rows = lax.reshape(lax.iota(jnp.uint32, count), lead)
    return RowNoise(source, rows, scale, shape[-1] if shape else None)


@partial(jax.tree_util.register_dataclass, data_fields=["values"], meta_fields=[])
@dataclass(frozen=True)
class StoredNoise:
    """Values that are kept as they are, for small or given directions."""

    values: jax.Array

    @property
    def shape(self) -> tuple[int, ...]:
        return self.values.shape

    def dense(self) -> jax.Array:
        return self.values

    def take(self, index) -> "StoredNoise":
        return StoredNoise(index(self.values))


@partial(jax.tree_util.register_dataclass, data_fields=["noise", "mask"], meta_fields=[])
@dataclass(frozen=True)
class MaskedNoise:
    """mask * noise, elementwise."""

    noise: RowNoise
    mask: jax.Array

    @property
    def shape(self) -> tuple[int, ...]:
        return self.noise.shape

    def dense(self) -> jax.Array:
        return jnp.where(self.mask, self.noise.dense(), 0)

    def take(self, index) -> "MaskedNoise":
        return MaskedNoise(self.noise.take(index), index(self.mask))


@partial(jax.tree_util.register_dataclass, data_fields=["left", "right"], meta_fields=[])
@dataclass(frozen=True)
class LowRankNoise:
    """The sum over rank of outer products: entry (*i, *j) is sum_k left[k, *i] right[k, *j].

    The factors are arrays: they are the small part. `left` carries 1 / sqrt(rank).
    """

    left: jax.Array
    right: jax.Array

    @property
    def shape(self) -> tuple[int, ...]:
        return self.left.shape[1:] + self.right.shape[1:]

    def dense(self) -> jax.Array:
        return lax.dot_general(self.left, self.right, (((0,), (0,)), ((), ())))


def low_rank_noise(source, seeds, shape: tuple[int, ...], split: int, rank: int) -> LowRankNoise:
    """Noise whose factors span the axes before and after `split`."""
    factors = []
    for seed, part in zip(seeds, (shape[:split], shape[split:]), strict=True):
        flat = row_noise(source(seed), (rank, int(np.prod(part, dtype=np.int64)))).dense()
        factors.append(lax.reshape(flat, (rank, *part)))
    return LowRankNoise(np.float32(1 / np.sqrt(rank)) * factors[0], factors[1])
