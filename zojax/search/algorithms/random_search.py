"""Random search: every point is uniform over the space. Every other search must beat it."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from zojax._checks import require_count
from zojax.search._random import Random, draw, make_random
from zojax.search.algorithms._algorithm import Algorithm
from zojax.search.algorithms._toolkit import bounds_of, keep_best, recommended, reused
from zojax.search.spaces import Space


class RandomSearchState(NamedTuple):
    random: Random
    x: jax.Array
    value: jax.Array


@reused
def random_search(batch_size: int = 1) -> Algorithm:
    """Draws x ~ U(space) for every evaluation and keeps the best.

    Args:
      batch_size: points of one ask.

    Raises:
      ValueError: batch_size below 1.

    >>> from zojax import search
    >>> found = search.minimize(lambda x: (x - 1) ** 2, search.uniform(0, 4), search.random_search(),
    ...                         budget=500, key=0)
    >>> bool(found.best_value < 1e-3)
    True
    """
    batch_size = require_count("batch_size", batch_size)

    def init(key, space: Space, budget: int) -> RandomSearchState:
        del budget
        x = space.clip(bounds_of(space)[0])
        return RandomSearchState(make_random(key), x, jnp.asarray(jnp.inf))

    def ask(space, state):
        u, random = draw(state.random, batch_size * space.dimension)
        x = space.from_unit(u.reshape(batch_size, space.dimension))
        return x, state._replace(random=random)

    def tell(space, state, x, values):
        i = jnp.argmin(values)
        return inject(space, state, x[i], values[i])

    def inject(space, state, x, value):
        del space
        return keep_best(state, x, value)

    return Algorithm(init, ask, tell, recommended, inject, batch_size=batch_size)
