"""Seeds: 64 bits for a step, for a direction, for a leaf, all derived from one JAX key."""

from dataclasses import dataclass, field
from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from zojax.noise._bits import threefry


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class ChildSeed:
    """A row of a table of seeds. Its reader slices the table: an early slice would be another kernel."""

    table: jax.Array
    index: int = field(metadata={"static": True})

    def __getitem__(self, half: int) -> jax.Array:
        return self.table[self.index, half]


# `seed[0]`, `seed[1]` are uint32.
Seed: TypeAlias = jax.Array | ChildSeed | tuple[jax.Array, jax.Array]


def make_seed(key: jax.Array) -> jax.Array:
    """64 bits, as two uint32, of a key of any implementation. A Threefry key gives its own bits.

    `child_seeds` uses counters above 2^32. JAX's own `fold_in`, `split` and draws stay below.
    """
    data = jax.random.key_data(key)
    return data if data.shape == (2,) else jax.random.bits(key, (2,), jnp.uint32)


def fold_in(key: jax.Array, data) -> jax.Array:
    """`jax.random.fold_in`, with equal bits. JAX's version is a loop, whose kernels compile more slowly.

    >>> key = jax.random.key(3)
    >>> fold_in(key, 5) == jax.random.fold_in(key, 5)
    Array(True, dtype=bool)
    """
    if str(jax.random.key_impl(key)) != "threefry2x32":
        return jax.random.fold_in(key, data)
    k, x = jax.random.key_data(key), jnp.uint32(data)
    words = threefry((k[0], k[1]), jnp.zeros_like(x), x)
    return jax.random.wrap_key_data(jnp.stack(words), impl="threefry2x32")


def child_seeds(seed: Seed, index, count: int) -> list[ChildSeed]:
    """Seeds of `count` leaves of direction `index`, which is below 2^32 - 1.

    Each half is the sum of two words. XLA would fuse plain words, with all their rounds, into each reader;
    it does not fuse a sum.
    """
    place = lax.iota(jnp.uint32, 4 * count)
    index = lax.convert_element_type(jnp.asarray(index), jnp.uint32) + np.uint32(1)
    words, _ = threefry((seed[0], seed[1]), jnp.broadcast_to(index, place.shape), place)
    table = jnp.sum(lax.reshape(words, (count, 2, 2)), axis=2, dtype=jnp.uint32)
    return [ChildSeed(table, i) for i in range(count)]
