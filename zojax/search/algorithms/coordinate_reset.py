"""Coordinate reset, a control: its one-line rule matches ZOOpt on many functions."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from zojax._numerics import float_dtype
from zojax.search._random import Random, draw, make_random
from zojax.search.algorithms._active import active_coordinate
from zojax.search.algorithms._algorithm import Algorithm
from zojax.search.algorithms._arrays import set_row
from zojax.search.algorithms._toolkit import moved_if, recommended, reused, sequential
from zojax.search.spaces import Space


class CoordinateResetState(NamedTuple):
    random: Random
    x: jax.Array
    value: jax.Array


@reused
def coordinate_reset() -> Algorithm:
    """Redraws one random coordinate of the best point uniformly, and keeps the new point if no worse.

    >>> from zojax import search
    >>> found = search.minimize(lambda x: abs(x - 1).sum(), search.uniform(-4, 4, (5,)),
    ...                         search.coordinate_reset(), budget=1000, key=0)
    >>> bool(found.best_value < 0.5)
    True
    """

    def init(key, space: Space, budget: int) -> CoordinateResetState:
        del budget
        x = space.sample(key, 1)[0].astype(float_dtype())
        return CoordinateResetState(make_random(key), x, jnp.asarray(jnp.inf))

    def ask(space, state):
        u, random = draw(state.random, 2)
        k = active_coordinate(space, state.x, u[0])
        entry = space.in_box(jnp.full(space.dimension, u[1]))[k]
        x = space.clip(set_row(state.x, k, entry))
        return x[None], state._replace(random=random)

    def inject(space, state, x, value):
        del space
        return moved_if(value <= state.value, state, x, value)

    return Algorithm(init, ask, sequential(inject), recommended, inject)
