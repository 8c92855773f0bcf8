"""evosax's algorithms, asked and told as ours: CMA-ES, natural and differential evolution."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from zojax._types import require_count
from zojax.search._algorithm import (
    Algorithm,
    bounds_of,
    float_dtype,
    keep_best,
    recommended,
    reused,
    span_of,
    where,
)
from zojax.search.spaces import Space


class EvosaxState(NamedTuple):
    """The strategy's own state and parameters; points are in the unit cube."""

    seed: jax.Array  # uint32 (2,), the data of a key
    strategy: Any
    params: Any
    told: jax.Array  # how many populations
    population: jax.Array  # the last one, as the strategy proposed it
    x: jax.Array  # the best point, encoded
    value: jax.Array


@reused
def from_evosax(strategy: str | type, population_size: int = 16, **settings) -> Algorithm:
    """An algorithm of evosax for continuous spaces, as one of ours.

        search.minimize(fun, space, search.from_evosax("CMA_ES", 20, std_init=0.25), budget=..., key=...)

    The strategy works in the unit cube. Populations start uniform over it, distributions at its middle
    with a standard deviation of 1/4. What it proposes outside is evaluated at the nearest point inside. A
    failed evaluation counts as the worst one of its population. Needs evosax:
    `pip install "zojax[search]"`.

    Args:
      strategy: a class of `evosax.algorithms`, or its name: "CMA_ES", "Sep_CMA_ES", "SNES", "SimpleES",
        "DifferentialEvolution", "PSO", ...
      population_size: points of one ask.
      **settings: parameters of the strategy to change from their defaults, such as std_init. Floats may
        be traced.

    Returns:
      An `Algorithm`.

    Raises:
      ImportError: evosax is not installed.
      ValueError: evosax has no such strategy, or the strategy no such setting; a population_size below 2,
        or one that the strategy does not take; a space that is not continuous.

    References:
      Lange, `evosax: JAX-based evolution strategies <https://arxiv.org/abs/2212.04180>`_, 2022.

    >>> from zojax import search
    >>> found = search.minimize(lambda x: ((x - 0.3) ** 2).sum(), search.uniform(-1, 1, (3,)),
    ...                         search.from_evosax("CMA_ES", 8), budget=400, key=0)
    >>> bool(found.best_value < 1e-3)
    True
    """
    make = _strategy_class(strategy)
    if require_count("population_size", population_size) < 2:
        raise ValueError(f"population_size must be at least 2, got {population_size}.")

    def build(d: int):
        try:
            algorithm = make(population_size=population_size, solution=jnp.zeros(d, float_dtype()))
        except AssertionError as error:
            name = make.__name__
            raise ValueError(f"{name} with population_size {population_size}: {error}") from error
        unknown = [name for name in settings if not hasattr(algorithm.default_params, name)]
        if unknown:
            known = ", ".join(sorted(vars(algorithm.default_params)))
            raise ValueError(f"{make.__name__} has no setting {unknown[0]!r}; it has {known}.")
        spread = {"std_init": 0.25} if hasattr(algorithm.default_params, "std_init") else {}
        return algorithm, algorithm.default_params.replace(**(spread | settings))

    def init(key, space: Space, budget: int) -> EvosaxState:
        del budget
        if not space.is_continuous:
            raise ValueError(
                f"evosax searches a continuum, got a space with other coordinates:\n{space}\n"
                "Use search.sracos(), which takes any space."
            )
        d = space.dimension
        algorithm, params = build(d)
        key, sample_key, init_key = jax.random.split(key, 3)
        population = jax.random.uniform(sample_key, (population_size, d), float_dtype())
        return EvosaxState(
            seed=jax.random.bits(key, (2,), jnp.uint32),
            strategy=_start(algorithm, init_key, population, jnp.zeros(population_size), params),
            params=jax.tree.map(jnp.asarray, params),
            told=jnp.int32(0),
            population=population,
            x=jnp.asarray(space.low, float_dtype()),
            value=jnp.asarray(jnp.inf, float_dtype()),
        )

    def ask(space: Space, state: EvosaxState):
        algorithm, _ = build(space.dimension)
        key = _key_of(state, 2 * state.told)
        population, strategy = algorithm.ask(key, state.strategy, state.params)
        if _has_population(algorithm):
            # The first population is its start, and has no values yet.
            first = state.told == 0
            population = jnp.where(first, state.population, population)
            strategy = where(first, state.strategy, strategy)
        low, _ = bounds_of(space)
        x = space.clip(low + span_of(space) * population)
        return x, state._replace(strategy=strategy, population=population)

    def tell(space: Space, state: EvosaxState, x, values):
        algorithm, _ = build(space.dimension)
        failed = ~jnp.isfinite(values)
        worst = jnp.max(jnp.where(failed, -jnp.inf, values))
        fitness = jnp.where(failed, jnp.where(jnp.isfinite(worst), worst, 0.0), values)
        key = _key_of(state, 2 * state.told + 1)
        # Told where it was evaluated: a distribution then learns where the bounds are.
        inside = _to_cube(space, x)
        strategy, _ = algorithm.tell(key, inside, fitness, state.strategy, state.params)
        if _has_population(algorithm):
            begun = _start(algorithm, key, inside, fitness, state.params)
            strategy = where(state.told == 0, begun, strategy)
        i = jnp.argmin(values)
        state = state._replace(strategy=strategy, told=state.told + 1)
        return keep_best(state, x[i], values[i])

    def inject(space, state: EvosaxState, x, value):
        """Into the recommendation, and, before the first population, into the start."""
        early = (value < state.value) & (state.told == 0)
        point = _to_cube(space, x)
        population = jnp.where(early, state.population.at[0].set(point), state.population)
        strategy = state.strategy
        if hasattr(strategy, "mean"):
            strategy = strategy.replace(mean=jnp.where(early, point, strategy.mean))
        return keep_best(state._replace(population=population, strategy=strategy), x, value)

    return Algorithm(init, ask, tell, recommended, inject, batch_size=population_size)


def _strategy_class(strategy) -> type:
    try:
        from evosax import algorithms
    except ImportError as error:
        raise ImportError('from_evosax needs evosax: pip install "zojax[search]".') from error
    if not isinstance(strategy, str):
        return strategy
    if strategy not in algorithms.algorithms:
        known = ", ".join(sorted(algorithms.algorithms))
        raise ValueError(f"evosax has no strategy {strategy!r}; it has {known}.")
    return algorithms.algorithms[strategy]


def _key_of(state: EvosaxState, draw) -> jax.Array:
    """The state holds no key itself, so that it can be saved as arrays."""
    return jax.random.fold_in(jax.random.wrap_key_data(state.seed, impl="threefry2x32"), draw)


def _has_population(algorithm) -> bool:
    return not hasattr(algorithm, "get_mean")


def _start(algorithm, key, population, fitness, params):
    if _has_population(algorithm):
        return algorithm.init(key, population, fitness, params)
    middle = jnp.full(population.shape[1], 0.5, population.dtype)
    return algorithm.init(key, middle, params)


def _to_cube(space: Space, x):
    low, _ = bounds_of(space)
    return (x - low) / span_of(space)
