"""What Pareto optimization over subsets shares: mutation, the size of a set, its place in an archive."""

import jax
import jax.numpy as jnp
from jax import lax

from zojax.search._random import Random, advance, index_from, to_unit, words
from zojax.search.spaces import Space
from zojax.search.spaces.subset import Subset


def subset_of(space: Space) -> Subset:
    """The one domain of a space of subsets, or an error."""
    if len(space.domains) != 1 or not isinstance(space.domains[0], Subset):
        raise ValueError(
            "subset selection searches exactly one search.subset(n, max_size=k), got a space of\n"
            f"{space}\nPass the subset alone, or use search.sracos(), which takes any space."
        )
    return space.domains[0]


def size_of(x: jax.Array) -> jax.Array:
    return jnp.sum(x > 0.5).astype(jnp.int32)


def mutate(random: Random, x: jax.Array, limit: int) -> tuple[jax.Array, Random]:
    """Flips each bit of (n,) with probability 1/n, one if that is none; fewer than `limit` ones remain.

    What has too many is drawn again: its evaluation could not be accepted.
    """
    n = x.shape[0]

    def attempt(random):
        u = to_unit(words(random, n + 1))
        flips = u[:n] < 1 / n
        one = lax.iota(jnp.int32, n) == index_from(u[n], n)
        flips = flips | (one & ~jnp.any(flips))
        return jnp.where(flips, 1 - x, x), advance(random)

    def is_large(carry):
        return size_of(carry[0]) >= limit

    return lax.while_loop(is_large, lambda carry: attempt(carry[1]), attempt(random))
