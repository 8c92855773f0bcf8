"""A random permutation of {0, ..., size - 1} that is computed where it is read, never stored."""

import jax
import jax.numpy as jnp
from jax import lax

from zojax import noise

_ROUNDS = 6  # four already give a pseudo-random permutation (Luby and Rackoff, 1988)


def permute(seed: jax.Array, index: jax.Array, size: int) -> jax.Array:
    """The place of `index` (uint32) under the permutation that `seed` picks.

    A Feistel network over an even number of bits, applied again while it lands outside `size`
    (cycle walking; Black and Rogaway, 2002): four tries at most on average.
    """
    half = max((size - 1).bit_length() + 1, 2) // 2
    mask = jnp.uint32((1 << half) - 1)

    def network(x):
        left, right = x >> half, x & mask
        for r in range(_ROUNDS):
            bits, _ = noise.threefry((seed[0], seed[1]), right, jnp.full_like(right, r))
            left, right = right, left ^ (bits & mask)
        return (left << half) | right

    index = lax.convert_element_type(index, jnp.uint32)
    return lax.while_loop(lambda x: x >= jnp.uint32(size), network, network(index))
