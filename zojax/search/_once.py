"""Small finite spaces: no point twice, so that a run ends when every point was evaluated."""

import functools
import math
from itertools import combinations, product
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from zojax.search._algorithm import Algorithm, span_of
from zojax.search._arrays import set_row
from zojax.search.domains import Domain, LogIntegers, Subset
from zojax.search.spaces import Space

LARGEST = 4096  # points of a space that is listed


class OnceState(NamedTuple):
    inner: Any
    seen: jax.Array  # bool (points of the space,)


@functools.lru_cache(maxsize=64)
def never_twice(algorithm: Algorithm, space: Space) -> Algorithm:
    """`algorithm` on a space of at most 4,096 points, where each is asked for once.

    A point that was asked for before gives way to the nearest that was not. Nothing changes on larger
    spaces, nor for algorithms that repeat points on purpose.
    """
    if space.size > LARGEST or algorithm.repeats_points:
        return algorithm
    points = all_points(space)

    def nearest(x, seen):
        """The index of the nearest point that was not seen; 0 where all were, beyond the budget."""
        distance = jnp.sum(jnp.abs((points - x) / span_of(space)), axis=1)
        return jnp.argmin(jnp.where(seen, jnp.inf, distance))

    def init(key, space, budget):
        return OnceState(algorithm.init(key, space, budget), jnp.zeros(len(points), bool))

    def ask(space, state):
        x, inner = algorithm.ask(space, state.inner)

        def once(seen, x):
            index = nearest(x, seen)
            return set_row(seen, index, jnp.bool_(True)), jnp.asarray(points, x.dtype)[index]

        seen, fresh = lax.scan(once, state.seen, x)
        return fresh, OnceState(inner, seen)

    def tell(space, state, x, values):
        return state._replace(inner=algorithm.tell(space, state.inner, x, values))

    def inject(space, state, x, value):
        seen = set_row(state.seen, nearest(x, seen=False), jnp.bool_(True))
        return OnceState(algorithm.inject(space, state.inner, x, value), seen)

    def best(state):
        return algorithm.best(state.inner)

    return algorithm._replace(init=init, ask=ask, tell=tell, best=best, inject=inject)


def all_points(space: Space) -> np.ndarray:
    """Every encoded point of a finite space, shape (size, d)."""
    points = np.zeros((1, 0))
    for domain in space.domains:
        rows = _values(domain)
        left, right = len(points), len(rows)
        points = np.concatenate([np.repeat(points, right, 0), np.tile(rows, (left, 1))], axis=1)
    return points


def _values(domain: Domain) -> np.ndarray:
    """Every encoded value of a domain, an array of them included, one a row."""
    if isinstance(domain, Subset):
        chosen = [c for k in range(domain.max_size + 1) for c in combinations(range(domain.n), k)]
        rows = np.zeros((len(chosen), domain.n))
        for row, members in zip(rows, chosen, strict=True):
            row[list(members)] = 1
        return rows
    if isinstance(domain, LogIntegers):
        entry = np.log(np.arange(domain.lowest, domain.highest + 1))
    else:
        entry = np.arange(domain.size, dtype=float)
    count = math.prod(domain.shape)
    return np.reshape(list(product(entry, repeat=count)), (-1, count))
