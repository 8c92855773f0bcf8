"""A random permutation of {0, ..., size - 1}, computed entry by entry and never stored."""

import jax
import jax.numpy as jnp
from jax import lax

from zojax import noise
from zojax._sharding import varying_like


def permute(seed: jax.Array, index: jax.Array, size: int) -> jax.Array:
    """The place of `index` (uint32) under the permutation of `seed`.

    A Feistel network over an even number of bits, applied again while its result is outside `size`
    (cycle walking; Black and Rogaway, 2002): four tries at most on average. Four rounds make a
    pseudo-random permutation (Luby and Rackoff, 1988) of large sizes. At small sizes, the probabilities
    of pairs of places are off by a relative 2^-half, and two more rounds gain another such factor.
    """
    half = max((size - 1).bit_length() + 1, 2) // 2
    rounds = 2 + 2 * -(-5 // half)
    mask = jnp.uint32((1 << half) - 1)

    def feistel_round(r, x):
        left, right = x >> half, x & mask
        bits, _ = noise.threefry((seed[0], seed[1]), right, lax.convert_element_type(r, jnp.uint32))
        return (right << half) | (left ^ (bits & mask))

    def walk(carry):
        x, _ = carry
        return lax.fori_loop(0, rounds, feistel_round, x), False

    def outside(carry):
        x, untouched = carry
        return untouched | (x >= jnp.uint32(size))

    # The carry of a loop varies over the same mesh axes as its result.
    index = varying_like(lax.convert_element_type(index, jnp.uint32), seed)
    return lax.while_loop(outside, walk, (index, True))[0]
