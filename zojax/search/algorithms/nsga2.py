"""NSGA-II: evolution of a population towards the Pareto front of several objectives."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from zojax._checks import require_count
from zojax._numerics import float_dtype
from zojax.search._random import Random, draw, index_from, make_random
from zojax.search.algorithms._algorithm import Algorithm
from zojax.search.algorithms._dominance import best_first, dominance
from zojax.search.algorithms._toolkit import reused
from zojax.search.algorithms._variation import DRAWS, cross, mutate
from zojax.search.spaces import Space

CROSSED = 0.9  # of the children
FEWEST, MOST, SHARE = 20, 50, 50  # members of a population: a share of the budget


class Nsga2State(NamedTuple):
    """The population, best first: by front, then by crowding."""

    random: Random
    asked: jax.Array  # points so far
    points: jax.Array  # (population, d)
    values: jax.Array  # (population, objectives), inf in empty places


@reused
def nsga2(
    objectives: int = 2,
    *,
    population_size: int | None = None,
    batch_size: int = 1,
    in_flight: int = 4,
) -> Algorithm:
    """NSGA-II: minimizes several objectives together, and keeps a population near their Pareto front.

        minimize(fun, space, objectives=2, budget=..., key=...).front

    A point dominates another one if no objective is worse and one is better. Fronts follow: points that
    none dominates, points that only these dominate, and so on. Within a front, a point with more room
    between its neighbours is better. Two parents win a tournament of two each. Their child is a crossover
    (simulated binary; uniform for coordinates without order) with about one coordinate mutated (polynomial;
    another value without order). It enters the population, which the worst member leaves.

    The first `population_size` points are uniform. Children come one at a time (Durillo et al. 2009), which
    needs fewer evaluations than the paper's generations; `batch_size=population_size` is the paper's.

    Args:
      objectives: values of an evaluation.
      population_size: by default, 1/50 of the budget, within 20 and 50.
      batch_size: children of one ask.
      in_flight: evaluations in an executor at once, for a batch_size of 1.

    Raises:
      ValueError: objectives below 2; a size below 1.

    References:
      Deb, Pratap, Agarwal and Meyarivan, `A fast and elitist multiobjective genetic algorithm: NSGA-II
      <https://doi.org/10.1109/4235.996017>`_, IEEE Transactions on Evolutionary Computation 2002.

    >>> from zojax import search
    >>> def fun(x):
    ...     return x**2, (x - 1) ** 2
    >>> found = search.minimize(fun, search.uniform(-3, 3), search.nsga2(2), budget=300, key=0)
    >>> bool((found.front.points > -0.01).all() and (found.front.points < 1.01).all())
    True
    """
    if require_count("objectives", objectives) < 2:
        raise ValueError(f"objectives must be at least 2, got {objectives}: use search.cma_es().")
    if population_size is not None:
        population_size = require_count("population_size", population_size)
    batch_size = require_count("batch_size", batch_size)
    in_flight = require_count("in_flight", in_flight)
    init, ask = partial(_init, objectives, population_size), partial(_ask, batch_size)
    in_flight = in_flight if batch_size == 1 else 1
    return Algorithm(init, ask, _tell, _best, _inject, batch_size, in_flight, objectives=objectives)


def _init(objectives: int, size: int | None, key, space: Space, budget: int) -> Nsga2State:
    size = size or min(MOST, max(FEWEST, budget // SHARE))
    return Nsga2State(
        random=make_random(key),
        asked=jnp.int32(0),
        points=space.sample(key, size).astype(float_dtype()),
        values=jnp.full((size, objectives), jnp.inf, float_dtype()),
    )


def _ask(batch_size: int, space: Space, state: Nsga2State):
    size, d = state.points.shape
    u, random = draw(state.random, batch_size * (5 + DRAWS * d))
    few, many = u[: 5 * batch_size].reshape(5, batch_size), u[5 * batch_size :]
    many = many.reshape(DRAWS, batch_size, d)
    # The population is sorted: the lower of two indices wins the tournament.
    a, b = (
        state.points[jnp.minimum(index_from(few[i], size), index_from(few[i + 1], size))]
        for i in (0, 2)
    )
    x = jnp.where((few[4] < CROSSED)[:, None], cross(space, many[:2], a, b), a)
    x = space.clip(mutate(space, many[2:], space.clip(x)))
    is_first = state.asked + jnp.arange(batch_size, dtype=jnp.int32) < size
    x = jnp.where(is_first[:, None], space.from_unit(many[0]), x)
    return x, state._replace(random=random, asked=state.asked + batch_size)


def _tell(space: Space, state: Nsga2State, x, values) -> Nsga2State:
    del space
    points = jnp.concatenate([state.points, x])
    values = jnp.concatenate([state.values, values])
    kept = best_first(values)[: len(state.points)]
    return state._replace(points=points[kept], values=values[kept])


def _inject(space: Space, state: Nsga2State, x, value) -> Nsga2State:
    return _tell(space, state, x[None], value[None])


def _best(state: Nsga2State):
    """All places of the population. Values outside the first front are inf."""
    dominated = jnp.any(dominance(state.values), axis=0)
    return state.points, jnp.where(dominated[:, None], jnp.inf, state.values)
