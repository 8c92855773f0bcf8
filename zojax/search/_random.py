"""Random words for searches: a stream of each key, hashed with the library's noise.

A draw of `jax.random` is a loop of its own in a program, which a short search in a new process waits for;
these hashes fuse into what reads them.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from zojax._types import as_key, float_dtype
from zojax.noise import make_seed, mix, row_keys

_KEYS, _SAMPLE = np.uint32(2**32 - 1), np.uint32(2**32 - 2)  # rows that no draw of a stream reaches


class Random(NamedTuple):
    """A counter-based stream of random words: the seed and the number of draws so far."""

    seed: jax.Array
    count: jax.Array


def make_random(key) -> Random:
    """The stream of a key; keys from `split` and points from `sample_unit` are independent of it."""
    a, b = make_seed(jax.random.clone(as_key(key)))
    # A bijection of 64 bits: keys of successive integers differ in one bit.
    a = mix((b, ~b), a)
    b = mix((a, ~a), b)
    return Random(jnp.stack([a, b]), jnp.uint32(0))


@partial(jax.jit, static_argnums=1)
def split(key, num: int) -> jax.Array:
    """`num` keys of one, shape (num,)."""
    halves = words(Random(make_random(key).seed, _KEYS), 2 * num)
    return jax.random.wrap_key_data(halves.reshape(num, 2), impl="threefry2x32")


def sample_unit(key, shape: tuple[int, ...]) -> jax.Array:
    """Uniform numbers in [0, 1) of a key."""
    stream = Random(make_random(key).seed, _SAMPLE)
    return to_unit(words(stream, int(np.prod(shape)))).reshape(shape)


def words(random: Random, num: int, start=0) -> jax.Array:
    """`num` words of the current draw, from column `start` on: the library's noise, row `count` of it."""
    column = jax.lax.iota(jnp.uint32, num) + jnp.asarray(start, jnp.uint32)
    return mix(row_keys(random.seed, random.count), column)


def advance(random: Random) -> Random:
    """The next draw."""
    return random._replace(count=random.count + np.uint32(1))


def to_unit(words: jax.Array) -> jax.Array:
    """Uniform numbers in [0, 1): multiples of 2^-24, or of 2^-32 in float64."""
    if float_dtype() == np.float64:
        return words.astype(np.float64) * 2.0**-32
    return (words >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-24)


def draw(random: Random, num: int) -> tuple[jax.Array, Random]:
    """`num` uniform numbers, and the stream after them."""
    return to_unit(words(random, num)), advance(random)


def index_from(u: jax.Array, n) -> jax.Array:
    """A random index below n from a uniform number; unsigned, for which XLA checks nothing."""
    return jnp.minimum((u * n).astype(jnp.uint32), n - 1)
