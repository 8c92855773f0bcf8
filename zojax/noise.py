"""Random-access noise: a direction is a function of a seed, never an array that is stored.

Every leaf of every direction has a seed of 64 bits, from Threefry-2x32-20 (Salmon et al., 2011). Entry
(row, column) of the leaf is one word of 32 bits, made by a keyed bijection of few operations, `mix`:

    key(row) = mix(seed, row), mix(reversed seed, row)        word = mix(key(row), column)

A row is one index of the leading axes, in C order, a column one index of the last axis. Every part can
therefore be generated alone, bit for bit as in the whole:

    z[3:5] == noise.take(lambda rows: rows[3:5]).dense()

All of it is elementwise, so that XLA fuses noise into whatever reads it; a compiler moves the keys out of
the loop over columns. benchmarks/NOTES.md has the statistical tests.

A noise object has `shape`, `dense()` (the values, float32) and `take(index)`, which applies an
indexing function of the leading axes without generating anything.
"""

import dataclasses
import math
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from zojax._barriers import made_once, zero_from

__all__ = [
    "LowRankNoise",
    "MaskedNoise",
    "Normals",
    "OneHot",
    "RowNoise",
    "Signs",
    "StoredNoise",
    "child_seeds",
    "fold_in",
    "low_rank_noise",
    "make_seed",
    "row_noise",
]

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = np.uint32(0x1BD11BDA)
LONG = 2**15  # entries of a vector that is worth a loop of its own


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


@jax.jit  # traced once, not once a leaf
def mix(key, x: jax.Array) -> jax.Array:
    """A bijection of uint32 x under a key of two uint32: a Weyl step, then three rounds.

    The rounds are those of `triple32` (Wellons, hash-prospector), whose exact bias over all 2^32 inputs,
    0.0209, is that of a random permutation; the multiple of the golden ratio before them spreads
    successive x over all bits, as in SplitMix (Steele, Lea and Flood, 2014). The second half of the key
    enters between the rounds: where the counters of two keys meet, their words do not.
    """
    x = lax.add(lax.mul(x, np.uint32(0x9E3779B9)), key[0])
    x = lax.add(lax.mul(_fold(x, 17), np.uint32(0xED5AD4BB)), key[1])
    x = lax.mul(_fold(x, 11), np.uint32(0xAC4C1B51))
    x = lax.mul(_fold(x, 15), np.uint32(0x31848BAB))
    return _fold(x, 14)


# `lax` and not operators, here and in `standard_normal`: an operator is a function of its own to JAX, which
# is traced for every shape, and noise has the shape of every leaf.


def _fold(x: jax.Array, bits: int) -> jax.Array:
    return lax.bitwise_xor(x, lax.shift_right_logical(x, np.uint32(bits)))


def row_keys(seed, rows: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The keys of rows, two uint32 for each."""
    a, b = (lax.broadcast(seed[half], rows.shape) for half in (0, 1))
    return mix((a, b), rows), mix((b, a), rows)


# t = _SLOPE * bits + polynomial in 1 + f is -1 - (2 / 23) log2(x), to 8e-6, for a float32 x of these bits
# and the fraction f; z / v is a polynomial in t, to 8e-6 for |z| < 3.7 and 8e-5 beyond. Both are
# minimax fits (linear programs over Chebyshev polynomials).
_SLOPE = -1.03660252e-08
_FRACTION = (10.1750309, -0.266964555, 0.184406667, -0.0560993912, 0.00709703502)
_QUANTILE = (
    *(3.75669137, 1.99172814, -0.458177382, 0.163710789, -0.0482431033),
    *(0.0428456943, 0.081873576, -0.184935788, 0.004688107, 0.0701601552),
)


@jax.jit  # also outside jit one program, whose products and sums are fused alike
def standard_normal(word: jax.Array) -> jax.Array:
    """A standard normal from 24 bits: the highest is the sign, the lower 23 the quantile of a magnitude.

    |z| has the distribution function v = (k + 1/2) / 2^23, with k those 23 bits, to a relative error of
    2.5e-5 (8e-5 beyond 3.7), in some 25 operations that vectorise; `lax.erf_inv` takes about 70. It is a
    function of log(1 - v^2), whose logarithm is taken from the bits of a float.

    >>> print(standard_normal(jnp.array([0, 2**31, 2**23 - 1, 2**32 - 1], jnp.uint32)).round(3))
    [ 0.   -0.    5.42 -5.42]
    """
    one, fraction = np.uint32(0x3F800000), np.uint32(0x7FFFFF)
    # Odd multiples of 2^-24: never the ends of (0, 1).
    v = lax.sub(_from_bits(word, fraction, one), np.float32(1 - 2.0**-24))
    upper = lax.sub(np.float32(1), v)
    bits = lax.bitcast_convert_type(lax.add(upper, lax.mul(upper, v)), jnp.uint32)
    f = _from_bits(bits, fraction, one)
    exponent = lax.convert_element_type(lax.bitcast_convert_type(bits, jnp.int32), jnp.float32)
    t = lax.add(lax.mul(exponent, np.float32(_SLOPE)), _polynomial(_FRACTION, f))
    # The sign last, as a bit: XLA's matrix kernels absorb sums and products but no bits, and would
    # leave the parts of a half absorbed quantile in memory.
    magnitude = lax.bitcast_convert_type(lax.mul(v, _polynomial(_QUANTILE, t)), jnp.uint32)
    return _from_bits(word, np.uint32(0x80000000), magnitude)


def random_sign(word: jax.Array) -> jax.Array:
    """+1 or -1, by the highest bit."""
    return _from_bits(word, np.uint32(0x80000000), np.uint32(0x3F800000))


def _from_bits(word: jax.Array, mask: np.uint32, others) -> jax.Array:
    """The float32 with the bits of `word` that are in the mask, and others."""
    bits = lax.bitwise_or(lax.bitwise_and(word, mask), others)
    return lax.bitcast_convert_type(bits, jnp.float32)


def _polynomial(coefficients: tuple[float, ...], x: jax.Array) -> jax.Array:
    total = np.float32(coefficients[-1])
    for c in coefficients[-2::-1]:
        total = lax.add(lax.mul(x, total), np.float32(c))
    return total


def make_seed(key: jax.Array) -> jax.Array:
    """64 bits, as two uint32, of a key of any implementation; those of a Threefry key as they are.

    `child_seeds` uses counters above 2^32, which JAX's own `fold_in`, `split` and draws do not reach.
    """
    data = jax.random.key_data(key)
    return data if data.shape == (2,) else jax.random.bits(key, (2,), jnp.uint32)


def fold_in(key: jax.Array, data) -> jax.Array:
    """`jax.random.fold_in`, to the bit. JAX's own is a loop, whose kernels take longer to compile.

    >>> key = jax.random.key(3)
    >>> fold_in(key, 5) == jax.random.fold_in(key, 5)
    Array(True, dtype=bool)
    """
    if str(jax.random.key_impl(key)) != "threefry2x32":
        return jax.random.fold_in(key, data)
    k, x = jax.random.key_data(key), jnp.uint32(data)
    words = threefry((k[0], k[1]), jnp.zeros_like(x), x)
    return jax.random.wrap_key_data(jnp.stack(words), impl="threefry2x32")


@partial(jax.tree_util.register_dataclass, data_fields=["table"], meta_fields=["index"])
@dataclass(frozen=True)
class ChildSeed:
    """A row of a table of seeds, read where it is used: a slice of its own would be a kernel of its own."""

    table: jax.Array
    index: int

    def __getitem__(self, half: int) -> jax.Array:
        return self.table[self.index, half]


def child_seeds(seed: jax.Array, index, count: int) -> list[ChildSeed]:
    """Seeds of `count` leaves of direction `index`, below 2^32 - 1.

    A half is the sum of two words: XLA does not fuse a sum into all that read it, as it would the words,
    and with them their rounds.
    """
    place = lax.iota(jnp.uint32, 4 * count)
    index = lax.convert_element_type(jnp.asarray(index), jnp.uint32) + np.uint32(1)
    words, _ = threefry((seed[0], seed[1]), jnp.broadcast_to(index, place.shape), place)
    table = jnp.sum(lax.reshape(words, (count, 2, 2)), axis=2, dtype=jnp.uint32)
    return [ChildSeed(table, i) for i in range(count)]


def counters(rows: jax.Array, columns: int) -> tuple[jax.Array, jax.Array]:
    shape = rows.shape + (columns,)
    column = lax.broadcasted_iota(jnp.uint32, shape, rows.ndim)
    return lax.broadcast_in_dim(rows, shape, tuple(range(rows.ndim))), column


# --- what fills a row ---------------------------------------------------------------------------


class Words:
    """Noise that makes one value of each word; kinds differ in `value`."""

    def rows(self, rows: jax.Array, width: int, start: int = 0) -> jax.Array:
        """float32 of shape rows.shape + (width,): `width` columns, from column `start` on."""
        shape = rows.shape + (width,)
        lead = tuple(range(rows.ndim))
        keys = row_keys(self.seed, rows)
        column = lax.broadcasted_iota(jnp.uint32, shape, rows.ndim)
        if start:
            column = column + np.uint32(start)
        if not rows.ndim and width > LONG:  # or a loop would keep what `mix` begins with
            column = column + zero_from(keys[0])
        return self.value(mix([lax.broadcast_in_dim(k, shape, lead) for k in keys], column))

    def columns(self, rows: jax.Array, columns: jax.Array, width: int) -> jax.Array:
        """The entries (row, column), for uint32 arrays of equal shape: any part of a row alone."""
        del width
        return self.value(mix(row_keys(self.seed, rows), columns))


@partial(jax.tree_util.register_dataclass, data_fields=["seed"], meta_fields=[])
@dataclass(frozen=True)
class Signs(Words):
    """Independent signs, +1 or -1 with probability 1/2."""

    seed: jax.Array
    value = staticmethod(random_sign)


@partial(jax.tree_util.register_dataclass, data_fields=["seed"], meta_fields=[])
@dataclass(frozen=True)
class Normals(Words):
    """Independent standard normals: the quantiles of 24-bit uniforms."""

    seed: jax.Array
    value = staticmethod(standard_normal)


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


def columns_of_rows(source, rows: jax.Array, width: int, start: int, count: int) -> jax.Array:
    """`count` columns of whole rows, from column `start` on: float32 of shape rows.shape + (count,)."""
    if isinstance(source, Words):  # a slice of all columns would not vectorise
        return source.rows(rows, count, start)
    return lax.slice_in_dim(source.rows(rows, width), start, start + count, axis=rows.ndim)


# --- noise of a leaf ------------------------------------------------------------------------------


@partial(jax.tree_util.register_dataclass, data_fields=["start"], meta_fields=["shape"])
@dataclass(frozen=True)
class Range:
    """The numbers start, start + 1, ... in a given shape: what nothing has been picked from yet.

    They are computed where they are read, and a compiler has one array less to make.
    """

    start: jax.Array | int
    shape: tuple[int, ...]

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


def as_array(numbers: "jax.Array | Range") -> jax.Array:
    return numbers.array() if isinstance(numbers, Range) else numbers


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["source", "row", "scale"],
    meta_fields=["width", "shared"],
)
@dataclass(frozen=True)
class RowNoise:
    """scale * source, seen through row numbers.

    A view of leading axes is the same view of the row numbers, which are 1/width of the leaf:
    slicing, gathering, transposing or reshaping noise costs and stores nothing.
    """

    source: Signs | Normals | OneHot
    row: jax.Array | Range  # uint32, the leading axes
    scale: jax.Array | float
    width: int | None  # the last axis; None for a scalar
    shared: bool = False  # by several readers: generated once for all, see `share`

    @property
    def shape(self) -> tuple[int, ...]:
        return self.row.shape + (() if self.width is None else (self.width,))

    def dense(self) -> jax.Array:
        values = self.source.rows(as_array(self.row), 1 if self.width is None else self.width)
        values = values if self.width is not None else values[..., 0]
        return (
            values if isinstance(self.scale, float) and self.scale == 1.0 else self.scale * values
        )

    def take(self, index) -> "RowNoise":
        return dataclasses.replace(self, row=index(as_array(self.row)))


def tie(noise, array: jax.Array):
    """The same noise, made to depend on an array, whatever its values.

    What depends on nothing but a seed, XLA computes as early as it can: before a loop that does not
    change it, or for all layers at once, and keeps it. Noise that is tied to what it is used with
    stays where it is read.
    """
    zero = zero_from(array)

    def tied(z):
        return dataclasses.replace(z, row=z.row ^ zero) if isinstance(z, RowNoise) else z

    return jax.tree.map(tied, noise, is_leaf=lambda z: isinstance(z, RowNoise))


def of_even_length(noise):
    """A long vector with one entry more where its length is odd; other noise as it is.

    XLA's CPU backend vectorises no long loop of odd length, and takes ten times as long. The entry is to
    be cut off behind `_barriers.settle`: what a slice leaves out would not be computed otherwise.
    """
    is_vector = isinstance(noise, RowNoise) and noise.row.ndim == 0 and noise.width is not None
    if is_vector and isinstance(noise.source, Words) and noise.width % 2 and noise.width > LONG:
        return dataclasses.replace(noise, width=noise.width + 1)
    return noise


def share(noise):
    """The same noise, for several readers at once, which need not wait to generate their own."""

    def shared(z):
        return dataclasses.replace(z, shared=True) if isinstance(z, RowNoise) else z

    return jax.tree.map(shared, noise, is_leaf=lambda z: isinstance(z, RowNoise))


def row_noise(source, shape: tuple[int, ...], scale=1.0) -> RowNoise:
    """Noise of a whole leaf."""
    return RowNoise(source, Range(0, shape[:-1]), scale, shape[-1] if shape else None)


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


def low_rank_noise(
    source, seed, parts: list[tuple[tuple[int, ...], tuple[int, ...]]], rank: int
) -> list[LowRankNoise]:
    """Noise of some leaves, each given by the shapes before and after its cut.

    All factors of a direction are one array, from which each takes its columns: one kernel to compile
    and to run, however many leaves there are.
    """
    shapes = [part for pair in parts for part in pair]
    sizes = [math.prod(shape) for shape in shapes]
    ends = np.cumsum(sizes).tolist()
    drawn = made_once(row_noise(source(seed), (rank, ends[-1])).dense())
    factors = [
        lax.reshape(lax.slice_in_dim(drawn, end - size, end, axis=1), (rank, *shape))
        for shape, size, end in zip(shapes, sizes, ends, strict=True)
    ]
    scale = np.float32(1 / np.sqrt(rank))
    return [LowRankNoise(scale * a, b) for a, b in zip(factors[::2], factors[1::2], strict=True)]
