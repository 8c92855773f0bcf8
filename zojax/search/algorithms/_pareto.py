"""Pareto optimization over subsets: the sizes of a problem, the size of a set, and mutation."""

import jax
import jax.numpy as jnp
from jax import lax

from zojax.search._random import Random, advance, index_from, to_unit, words
from zojax.search.spaces import Space


def subset_sizes(space: Space) -> tuple[int, int]:
    """(n, max_size) of a space that is one `search.subset`; raises for any other space."""
    max_size = getattr(space.domains[0], "max_size", None)
    if len(space.domains) != 1 or max_size is None:
        raise ValueError(
            "subset selection searches exactly one search.subset(n, max_size=k), got a space of\n"
            f"{space}\nPass the subset alone, or use search.sracos(), which takes any space."
        )
    return space.dimension, max_size


def size_of(x: jax.Array) -> jax.Array:
    """The number of members of a set (n,)."""
    return jnp.sum(x > 0.5).astype(jnp.int32)


def mutate(random: Random, x: jax.Array, limit: int) -> tuple[jax.Array, Random]:
    """Flips each bit of (n,) with probability 1/n, and one bit if none was drawn.

    It draws again until fewer than `limit` members remain, because larger sets are never accepted.
    """
    n = x.shape[0]

    def attempt(random):
        u = to_unit(words(random, n + 1))
        flips = u[:n] < 1 / n
        one = lax.iota(jnp.int32, n) == index_from(u[n], n)
        flips = flips | (one & ~jnp.any(flips))
        return jnp.where(flips, 1 - x, x), advance(random)

    return lax.while_loop(
        lambda carry: size_of(carry[0]) >= limit, lambda carry: attempt(carry[1]), attempt(random)
    )
