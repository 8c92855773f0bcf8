"""Random bits: a word of 32 bits for each counter, and the sign or normal made from a word.

Entry (row, column) of a leaf is one word. `mix`, a keyed bijection of few operations, computes it:

    key(row) = mix(seed, row), mix(reversed seed, row)        word = mix(key(row), column)

Every operation is elementwise, so XLA fuses the noise into its reader. The compiler moves the keys out of
the loop over columns. benchmarks/NOTES.md has the statistical tests.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from zojax._barriers import zero_from
from zojax._sharding import has_explicit_axes

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = np.uint32(0x1BD11BDA)
_WEYL = np.uint32(0x9E3779B9)

# What follows calls `lax` functions: JAX traces an operator anew for each shape of a leaf.


@jax.jit  # one trace for all counters of a shape
def threefry(seed, x0: jax.Array, x1: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Threefry-2x32-20 (Salmon et al., 2011) of counters (x0, x1) under a seed of two uint32.

    The counters are uint32 arrays of equal shape. XLA fuses these operations into their consumer.
    """
    k0, k1 = (lax.broadcast(half, x0.shape) for half in seed)
    schedule = (k1, lax.bitwise_xor(lax.bitwise_xor(k0, k1), _PARITY), k0)
    x0, x1 = lax.add(x0, k0), lax.add(x1, k1)
    for group in range(5):
        x0, x1 = _rounds(x0, x1, _ROTATIONS[group % 2])
        x0 = lax.add(x0, schedule[group % 3])
        x1 = lax.add(lax.add(x1, schedule[(group + 1) % 3]), np.uint32(group + 1))
    return x0, x1


@jax.jit  # one trace for all leaves of a shape
def mix(key, x: jax.Array) -> jax.Array:
    """A bijection of uint32 x under a key of two uint32: a Weyl step, then three rounds.

    The rounds are those of `triple32` (Wellons, hash-prospector). Their exact bias over all 2^32 inputs,
    0.021, is that of a random permutation. The Weyl step multiplies by the golden ratio and spreads
    successive x over all bits, as in SplitMix (Steele, Lea and Flood, 2014). The second half of the key
    enters between the rounds: two keys whose counters meet still give different words.
    """
    x = lax.add(lax.mul(x, _WEYL), key[0])
    x = lax.add(lax.mul(_fold(x, 17), np.uint32(0xED5AD4BB)), key[1])
    x = lax.mul(_fold(x, 11), np.uint32(0xAC4C1B51))
    x = lax.mul(_fold(x, 15), np.uint32(0x31848BAB))
    return _fold(x, 14)


@partial(jax.jit, static_argnums=2)  # one trace for groups of the same rotations
def _rounds(x0: jax.Array, x1: jax.Array, rotations: tuple[int, ...]) -> tuple:
    for r in rotations:
        x0 = lax.add(x0, x1)
        left, right = np.uint32(r), np.uint32(32 - r)
        x1 = lax.bitwise_or(lax.shift_left(x1, left), lax.shift_right_logical(x1, right))
        x1 = lax.bitwise_xor(x1, x0)
    return x0, x1


def shifted(key, start: int) -> tuple[jax.Array, jax.Array]:
    """The key with `mix(shifted(key, start), x) = mix(key, start + x)`.

    The numbers `start + x` would be an array, which XLA makes before a loop and keeps.
    """
    return lax.add(key[0], np.uint32(start * int(_WEYL) % 2**32)), key[1]


def scramble(x):
    """A bijection of uint32 without a key: the last steps of MurmurHash3 (Appleby).

    Two rounds are cheap enough for XLA to repeat them in each consumer. x is an array of NumPy or JAX.
    """
    for shift, factor in (16, 0x85EBCA6B), (13, 0xC2B2AE35):
        x = (x ^ (x >> np.uint32(shift))) * np.uint32(factor)
    return x ^ (x >> np.uint32(16))


def _fold(x: jax.Array, bits: int) -> jax.Array:
    return lax.bitwise_xor(x, lax.shift_right_logical(x, np.uint32(bits)))


def row_keys(seed, rows: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The keys of rows, two uint32 for each row."""
    a, b = (lax.broadcast(seed[half], rows.shape) for half in (0, 1))
    return mix((a, b), rows), mix((b, a), rows)


def column_numbers(rows: jax.Array, columns: int) -> jax.Array:
    """Column numbers of whole rows, of shape rows.shape + (columns,). `rows` has one uint32 for each.

    A loop would store the Weyl step of `mix`, for a vector or on a mesh with explicit axes. So the numbers
    wait for `rows` there.
    """
    numbers = lax.iota(jnp.uint32, columns)
    if not rows.ndim or has_explicit_axes():
        numbers = lax.add(numbers, zero_from(rows))
    return lax.broadcast_in_dim(numbers, rows.shape + (columns,), (rows.ndim,))


def counters(rows: jax.Array, columns: int) -> tuple[jax.Array, jax.Array]:
    """Row and column numbers of whole rows, each of shape rows.shape + (columns,)."""
    shape = rows.shape + (columns,)
    row = lax.broadcast_in_dim(rows, shape, tuple(range(rows.ndim)))
    return row, column_numbers(rows, columns)


def random_sign(word: jax.Array) -> jax.Array:
    """+1 or -1, by the highest bit."""
    return _from_bits(word, np.uint32(0x80000000), np.uint32(0x3F800000))


def uniform(word: jax.Array) -> jax.Array:
    """A multiple of 2^-24 in [0, 1), by the highest 24 bits."""
    high = lax.shift_right_logical(word, np.uint32(8))
    # Below 2^24, so int32 has the same numbers, and its conversion vectorises.
    number = lax.convert_element_type(lax.bitcast_convert_type(high, jnp.int32), jnp.float32)
    return lax.mul(number, np.float32(2.0**-24))


# Let x be a float32, `bits` its bits and f its fraction. t = _SLOPE * bits + polynomial in 1 + f equals
# -1 - (2 / 23) log2(x), to 8e-6. z / v is a polynomial in t, to 8e-6 for |z| < 3.7 and 8e-5 beyond.
# Both are minimax fits (linear programs over Chebyshev polynomials).
_SLOPE = -1.03660252e-08
_FRACTION = (10.1750309, -0.266964555, 0.184406667, -0.0560993912, 0.00709703502)
_QUANTILE = (
    *(3.75669137, 1.99172814, -0.458177382, 0.163710789, -0.0482431033),
    *(0.0428456943, 0.081873576, -0.184935788, 0.004688107, 0.0701601552),
)


@jax.jit  # outside `jit` too, one program that fuses products and sums in one way
def standard_normal(word: jax.Array) -> jax.Array:
    """A standard normal from 24 bits: the highest is the sign, the lower 23 the quantile of a magnitude.

    With k those 23 bits, |z| has the distribution function v = (k + 1/2) / 2^23. The relative error is
    2.5e-5 (8e-5 beyond 3.7). It takes some 25 operations that vectorise; `lax.erf_inv` takes about 70.
    z is a function of log(1 - v^2), and the bits of a float give that logarithm.

    >>> print(standard_normal(jnp.array([0, 2**31, 2**23 - 1, 2**32 - 1], jnp.uint32)).round(3))
    [ 0.   -0.    5.42 -5.42]
    """
    one, fraction = np.uint32(0x3F800000), np.uint32(0x7FFFFF)
    # Odd multiples of 2^-24, strictly inside (0, 1).
    v = lax.sub(_from_bits(word, fraction, one), np.float32(1 - 2.0**-24))
    upper = lax.sub(np.float32(1), v)
    bits = lax.bitcast_convert_type(lax.add(upper, lax.mul(upper, v)), jnp.uint32)
    f = _from_bits(bits, fraction, one)
    exponent = lax.convert_element_type(lax.bitcast_convert_type(bits, jnp.int32), jnp.float32)
    t = lax.add(lax.mul(exponent, np.float32(_SLOPE)), _polynomial(_FRACTION, f))
    # The sign comes last, as a bit. XLA's matrix kernels absorb sums and products but no bit operations,
    # and would store the intermediate values of a partly absorbed quantile.
    magnitude = lax.bitcast_convert_type(lax.mul(v, _polynomial(_QUANTILE, t)), jnp.uint32)
    return _from_bits(word, np.uint32(0x80000000), magnitude)


def _from_bits(word: jax.Array, mask: np.uint32, others: jax.Array | np.uint32) -> jax.Array:
    """The float32 with the bits of `word` inside the mask, joined with `others`."""
    bits = lax.bitwise_or(lax.bitwise_and(word, mask), others)
    return lax.bitcast_convert_type(bits, jnp.float32)


def _polynomial(coefficients: tuple[float, ...], x: jax.Array) -> jax.Array:
    *rest, last = coefficients
    total: jax.Array = np.float32(last)  # type: ignore[assignment]  # NumPy scalars are JAX inputs
    for c in reversed(rest):
        total = lax.add(lax.mul(x, total), np.float32(c))
    return total
