"""Active coordinates of conditional spaces. Elsewhere, all coordinates are active."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from zojax.search._random import index_from
from zojax.search.spaces import Space


def active_coordinate(space: Space, x: jax.Array, u: jax.Array) -> jax.Array:
    """A random active coordinate of x (d,), from a uniform number."""
    if not space.is_conditional:
        return index_from(u, space.dimension)
    ranks = jnp.cumsum(space.active(x).astype(jnp.uint32), dtype=jnp.uint32)
    return jnp.argmax(ranks > index_from(u, ranks[-1])).astype(jnp.uint32)


def next_active(space: Space, x: jax.Array, order: jax.Array, visits: jax.Array) -> jax.Array:
    """The least number of visits, from `visits` on, at which `order` visits an active coordinate of x."""
    if not space.is_conditional:
        return visits
    ahead = lax.iota(jnp.uint32, len(order))
    active = space.active(x)[order[lax.rem(visits + ahead, np.uint32(len(order)))]]
    return visits + jnp.argmax(active).astype(jnp.uint32)
