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


# log2(1 + f) for f in [0, 1), to 1.3e-5; and z / v as a polynomial in t = -log(1 - v^2) / 8.35 - 1, to
# 5e-6: least squares in Chebyshev polynomials, reweighted towards the largest relative error.
_LOG2 = (1.253661e-05, 1.44168459, -0.707992882, 0.413630661, -0.192196194, 0.0448738198)
_QUANTILE = (
    *(3.85028246, 2.04200348, -0.474179337, 0.187174402, -0.0607730168, 0.0154274636),
    *(0.0366678421, -0.133059916, 0.0931178483, 0.0387147373, -0.0415352984),
)


@jax.jit  # also outside jit one program, whose products and sums are fused alike
def standard_normal(word: jax.Array) -> jax.Array:
    """A standard normal from 24 bits: the sign, and the quantile of a magnitude in (0, 1).

    |z| has the distribution function (k + 1/2) / 2^23, with k the 23 bits after the sign, to a relative
    error of 1e-5, in 25 operations that vectorise; `lax.erf_inv` takes about 70.

    >>> print(standard_normal(jnp.array([0, 2**31, 2**31 - 1, 2**32 - 1], jnp.uint32)).round(3))
    [ 0.   -0.    5.42 -5.42]
    """
    one, half_step = np.uint32(0x3F800000), np.float32(2.0**-24)
    # Odd multiples of 2^-24: never the ends of (0, 1).
    v = lax.bitcast_convert_type(one | ((word << np.uint32(1)) >> np.uint32(9)), jnp.float32)
    v = (v - np.float32(1)) + half_step
    bits = lax.bitcast_convert_type((1 - v) * (1 + v), jnp.uint32)
    exponent = lax.bitcast_convert_type(bits >> np.uint32(23), jnp.int32) - np.int32(127)
    f = lax.bitcast_convert_type(one | (bits & np.uint32(0x7FFFFF)), jnp.float32) - np.float32(1)
    log2 = exponent.astype(jnp.float32) + _polynomial(_LOG2, f)
    t = np.float32(-np.log(2) / 8.35) * log2 - np.float32(1)
    # The sign last, as a bit: XLA's matrix kernels absorb sums and products but no bits, and would
    # leave the parts of a half absorbed quantile in memory.
    magnitude = lax.bitcast_convert_type(v * _polynomial(_QUANTILE, t), jnp.uint32)
    return lax.bitcast_convert_type(magnitude | (word & np.uint32(0x80000000)), jnp.float32)


def _polynomial(coefficients: tuple[float, ...], x: jax.Array) -> jax.Array:
    total = np.float32(coefficients[-1])
    for c in coefficients[-2::-1]:
        total = total * x + np.float32(c)
    return total


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
    """Independent standard normals: the quantiles of 24-bit uniforms."""

    seed: jax.Array

    def rows(self, rows: jax.Array, width: int) -> jax.Array:
        """float32 of shape rows.shape + (width,)."""
        return self.columns(*counters(rows, width), width)

    def columns(self, rows: jax.Array, columns: jax.Array, width: int) -> jax.Array:
        """The entries (row, column), for uint32 arrays of equal shape: any part of a row alone."""
        del width
        word, _ = threefry((self.seed[0], self.seed[1]), rows, columns)
        return standard_normal(word)


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
    jax.tree_util.register_dataclass,
    data_fields=["source", "row", "scale"],
    meta_fields=["width", "shared"],
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
    shared: bool = False  # by several readers: generated once for all, see `share`

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
        return dataclasses.replace(self, row=index(self.row))


def tie(noise, array: jax.Array):
    """The same noise, made to depend on an array, whatever its values.

    What depends on nothing but a seed, XLA computes as early as it can: before a loop that does not
    change it, or for all layers at once, and keeps it. Noise that is tied to what it is used with
    stays where it is read.
    """
    salt = zero_from(array)

    def salted(z):
        if not isinstance(z, RowNoise):
            return z
        return dataclasses.replace(z, source=salt_source(z.source, salt))

    return jax.tree.map(salted, noise, is_leaf=lambda z: isinstance(z, RowNoise))


def share(noise):
    """The same noise, for several readers at once, which need not wait to generate their own."""

    def shared(z):
        return dataclasses.replace(z, shared=True) if isinstance(z, RowNoise) else z

    return jax.tree.map(shared, noise, is_leaf=lambda z: isinstance(z, RowNoise))


def salt_source(source, salt: jax.Array):
    """A source whose seeds went through an exclusive or with `salt`."""
    return jax.tree.map(lambda x: x ^ salt if x.dtype == jnp.uint32 else x, source)


def zero_from(array: jax.Array) -> jax.Array:
    """Zero, as uint32, computed from an entry of the array: shifted out in two halves.

    A shift by 32 at once would be folded to a constant.
    """
    entry = lax.reshape(lax.slice(array, (0,) * array.ndim, (1,) * array.ndim), ())
    if jnp.issubdtype(array.dtype, jnp.floating):
        entry = lax.bitcast_convert_type(entry.astype(jnp.float32), jnp.uint32)
    return (entry.astype(jnp.uint32) >> np.uint32(16)) >> np.uint32(16)


@jax.custom_jvp
def settle(x: jax.Array) -> jax.Array:
    """The same numbers, none infinite, computed once: all readers see the same bits.

    XLA repeats cheap arithmetic in each kernel that reads it, and contracts products and sums as each
    kernel allows. Where its CPU backend would drop a barrier, a loop of one trip stands in.
    """
    return lax.platform_dependent(x, cpu=_one_trip, default=lax.optimization_barrier)


def _one_trip(x):
    # A trip count that XLA cannot derive, and a body that it cannot prove to change nothing.
    def body(carry):
        done, y = carry
        return jnp.bool_(True), jnp.where(done, jnp.zeros_like(y), y)

    return lax.while_loop(lambda carry: ~carry[0], body, (jnp.isinf(x[0]), x))[1]


@jax.custom_jvp
def rounded(x: jax.Array, finite: jax.Array) -> jax.Array:
    """The same array, each entry rounded to its dtype before anything is done with it.

    Compilers contract a product and the sum that it enters, or skip a rounding to bfloat16, where
    they meet in one kernel. An or with a zero, which the compiler cannot know to be one as it cannot
    know that `finite` is, keeps them apart at no cost in memory and little in time.
    """
    bits = jnp.dtype(f"uint{jnp.finfo(x.dtype).bits}")
    # Not an exclusive or, which cancels where it is done twice, nor a mask of a bool's sign, which
    # LLVM turns into a choice and adds through.
    zero = (~jnp.isfinite(finite)).astype(bits)
    return lax.bitcast_convert_type(lax.bitcast_convert_type(x, bits) | zero, x.dtype)


# Both are the identity to a derivative, which the bits and the loop would hide.
settle.defjvp(lambda primals, tangents: (settle(*primals), tangents[0]))
rounded.defjvp(lambda primals, tangents: (rounded(*primals), tangents[0]))


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
