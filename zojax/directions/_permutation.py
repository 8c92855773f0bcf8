"""A random permutation of {0, ..., size - 1} that is computed where it is read, never stored."""

import jax
import jax.numpy as jnp
from jax import lax

from zojax import noise
from zojax._sharding import varying_like


def permute(seed: jax.Array, index: jax.Array, size: int) -> jax.Array:
    """The place of `index` (uint32) under the permutation that `seed` picks.

    A Feistel network over an even number of bits, applied again while it lands outside `size`
    (cycle walking; Black and Rogaway, 2002): four tries at most on average. Four rounds make a
    pseudo-random permutation (Luby and Rackoff, 1988), but for small sizes: pairs of places are off by a
    part of some 2^-half, and every two rounds more take that factor again.
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

    # The carry of a loop varies as what it becomes.
    index = varying_like(lax.convert_element_type(index, jnp.uint32), seed)
    return lax.while_loop(outside, walk, (index, True))[0]
