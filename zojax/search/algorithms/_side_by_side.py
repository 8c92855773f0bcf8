"""Copies of an algorithm that run side by side, one point each, and share their best point."""

import jax
import jax.numpy as jnp

from zojax.search._random import split
from zojax.search.algorithms._algorithm import Algorithm
from zojax.search.algorithms._toolkit import reused


@reused
def side_by_side(algorithm: Algorithm, copies: int) -> Algorithm:
    """`copies` of an algorithm with batch_size 1, as one algorithm with batches."""
    if copies == 1:
        return algorithm

    def init(key, space, budget):
        return jax.vmap(lambda key: algorithm.init(key, space, budget))(split(key, copies))

    def ask(space, states):
        x, states = jax.vmap(lambda state: algorithm.ask(space, state))(states)
        return x.reshape(copies, -1), states

    def tell(space, states, x, values):
        def one(state, x, value):
            return algorithm.tell(space, state, x[None], value[None])

        states = jax.vmap(one)(states, x, values)
        return inject(space, states, *_least(x, values))

    def inject(space, states, x, value):
        return jax.vmap(lambda state: algorithm.inject(space, state, x, value))(states)

    def best(states):
        return _least(*jax.vmap(algorithm.best)(states))

    return algorithm._replace(
        init=init, ask=ask, tell=tell, best=best, inject=inject, batch_size=copies, in_flight=1
    )


def _least(x: jax.Array, values: jax.Array) -> tuple[jax.Array, jax.Array]:
    i = jnp.argmin(values)
    return x[i], values[i]
