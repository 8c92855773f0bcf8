"""Random words for searches: each key has a stream, hashed as in `zojax.noise`.

Each draw of `jax.random` adds a loop to a program. A short search in a new process would spend its time
compiling these. The hashes here fuse into their consumers.
"""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from zojax._keys import as_key
from zojax._numerics import float_dtype
from zojax.noise import make_seed, mix, row_keys, standard_normal

ROW = "random_row"  # the name of functions that make a row of random numbers, in traced programs

# Numbers of draws that no stream reaches.
_EVALUATIONS, _SAMPLE, _KEYS = (np.uint32(2**32 - i) for i in (3, 2, 1))


class Random(NamedTuple):
    """A counter-based stream of random words: a seed and the number of draws so far."""

    seed: jax.Array  # uint32 (2,)
    draws: Any  # uint32 ()


def make_random(key) -> Random:
    """The stream of a key, independent of its `split` keys and of its `sample_unit` points."""
    a, b = make_seed(jax.random.clone(as_key(key)))
    # A bijection of 64 bits: seeds of successive integers differ in one bit only.
    a = mix((b, ~b), a)
    b = mix((a, ~a), b)
    return Random(jnp.stack([a, b]), jnp.uint32(0))


@partial(jax.jit, static_argnums=1)
def split(key, num: int) -> jax.Array:
    """`num` keys of the same kind as `key`, shape (num,)."""
    return _keys(as_key(key), num, _KEYS)


def evaluation_key(key) -> jax.Array:
    """The key that keys of evaluations fold from. The user may have split `key` itself."""
    return _keys(as_key(key), 1, _EVALUATIONS)[0]


def _keys(key, num: int, row) -> jax.Array:
    size = jax.random.key_data(key).shape[-1]
    data = words(Random(make_random(key).seed, row), num * size).reshape(num, size)
    return jax.random.wrap_key_data(data, impl=jax.random.key_impl(key))


def sample_unit(key, shape: tuple[int, ...]) -> jax.Array:
    """Uniform numbers in [0, 1) of a key."""
    stream = Random(make_random(key).seed, _SAMPLE)
    return unit(stream, int(np.prod(shape))).reshape(shape)


def row(fun: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """Names a function (seed, row, *static) of random numbers: `numpy_program` makes many rows at once."""
    fun.__name__ = ROW
    static = range(2, len(inspect.signature(fun).parameters))
    return jax.jit(fun, static_argnums=tuple(static))


def words(random: Random, num: int, start: int = 0) -> jax.Array:
    """`num` words of the current draw, from column `start` on: row `draws` of the library's noise."""
    return _words(random.seed, random.draws, num, start)


@row
def _words(seed, draws, num: int, start: int) -> jax.Array:
    column = jax.lax.iota(jnp.uint32, num) + jnp.asarray(start, jnp.uint32)
    return mix(row_keys(seed, draws), column)


def advance(random: Random) -> Random:
    """The next draw."""
    return random._replace(draws=random.draws + np.uint32(1))


def to_unit(words: jax.Array) -> jax.Array:
    """Uniform numbers in [0, 1): multiples of 2^-24, or of 2^-32 in float64."""
    if float_dtype() == np.float64:
        return words.astype(np.float64) * 2.0**-32
    return (words >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-24)


def unit(random: Random, num: int) -> jax.Array:
    """`num` uniform numbers of the current draw, with 53 bits in float64."""
    return _unit(random.seed, random.draws, num)


@row
def _unit(seed, draws, num: int) -> jax.Array:
    random = Random(seed, draws)
    high = to_unit(words(random, num))
    if high.dtype == np.float32:
        return high
    low = words(random, num, start=num) >> np.uint32(11)
    return high + low.astype(np.float64) * 2.0**-53


def normals(random: Random, num: int) -> jax.Array:
    """`num` standard normals of the current draw."""
    return _normals(random.seed, random.draws, num)


@row
def _normals(seed, draws, num: int) -> jax.Array:
    return standard_normal(words(Random(seed, draws), num)).astype(float_dtype())


def draw(random: Random, num: int) -> tuple[jax.Array, Random]:
    """`num` uniform numbers, and the stream after them."""
    return unit(random, num), advance(random)


def index_from(u: jax.Array, n) -> jax.Array:
    """A random index below n from a uniform number. Unsigned, so XLA adds no check for negatives."""
    return jnp.minimum((u * n).astype(jnp.uint32), n - 1)
