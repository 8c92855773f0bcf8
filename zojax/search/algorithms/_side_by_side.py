"""Copies of an algorithm that run side by side, one point each, and share their best point."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from zojax.search._random import split
from zojax.search.algorithms._algorithm import Algorithm
from zojax.search.algorithms._toolkit import reused


class SideBySideState(NamedTuple):
    """The copies, and a point that joins the moves of several of them."""

    copies: Any  # their states, stacked
    joined: jax.Array  # (d,)
    is_next: jax.Array  # whether the joined point takes the place of the first copy's


@reused
def side_by_side(algorithm: Algorithm, copies: int) -> Algorithm:
    """`copies` of an algorithm with batch_size 1, as one algorithm with batches.

    All copies learn the best point. If several moved away from it and found better points, the sum of their
    moves is evaluated next.
    """
    if copies == 1:
        return algorithm

    def init(key, space, budget):
        states = jax.vmap(lambda key: algorithm.init(key, space, budget))(split(key, copies))
        x, _ = _best_of(states)
        return SideBySideState(states, x, jnp.bool_(False))

    def ask(space, state):
        x, states = jax.vmap(lambda state: algorithm.ask(space, state))(state.copies)
        x = jnp.where(_replaced(state), state.joined, x.reshape(copies, -1))
        return x, state._replace(copies=states)

    def tell(space, state, x, values):
        def one(state, x, value):
            return algorithm.tell(space, state, x[None], value[None])

        def keep(new, old):
            shape = (copies,) + (1,) * (new.ndim - 1)
            return jnp.where(_replaced(state).reshape(shape), old, new)

        start, value = _best_of(state.copies)
        told = jax.tree.map(keep, jax.vmap(one)(state.copies, x, values), state.copies)
        better = (values < value)[:, None] & ~_replaced(state) & jnp.isfinite(value)
        joined = start + jnp.sum(jnp.where(better, x - start, 0), axis=0)
        state = SideBySideState(told, space.clip(joined), jnp.sum(better) > 1)
        return inject(space, state, *_least(x, values))

    def inject(space, state, x, value):
        states = jax.vmap(lambda copy: algorithm.inject(space, copy, x, value))(state.copies)
        return state._replace(copies=states)

    def best(state):
        return _best_of(state.copies)

    def _best_of(states):
        return _least(*jax.vmap(algorithm.best)(states))

    def _replaced(state):
        return (jnp.arange(copies) == 0)[:, None] & state.is_next

    return algorithm._replace(
        init=init, ask=ask, tell=tell, best=best, inject=inject, batch_size=copies, in_flight=1
    )


def _least(x: jax.Array, values: jax.Array) -> tuple[jax.Array, jax.Array]:
    i = jnp.argmin(values)
    return x[i], values[i]
