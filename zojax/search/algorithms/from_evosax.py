"""Algorithms of evosax: CMA-ES, natural and differential evolution, and others."""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from zojax._checks import require_count
from zojax._numerics import float_dtype
from zojax.search.algorithms._algorithm import Algorithm
from zojax.search.algorithms._toolkit import (
    bounds_of,
    keep_best,
    recommended,
    reused,
    select,
    span_of,
)
from zojax.search.spaces import Space

SPREAD = 0.25  # first standard deviation, in the unit cube


class EvosaxState(NamedTuple):
    """The strategy's own state and parameters, with points in the unit cube."""

    seed: jax.Array  # uint32 (2,), key data
    strategy: Any
    params: Any
    told: jax.Array  # number of populations
    population: jax.Array  # the last one, before clipping
    x: jax.Array  # the best point, encoded
    value: jax.Array


@reused
def from_evosax(strategy: str | Callable, population_size: int = 16, **settings) -> Algorithm:
    """Wraps an algorithm of evosax, for continuous spaces.

        search.minimize(fun, space, search.from_evosax("CMA_ES", 20, std_init=0.25), budget=..., key=...)

    The strategy works in the unit cube. Populations start uniform over the cube. Distributions start at its
    middle with standard deviation 1/4; `std_init` or `std_schedule` changes it. Proposals outside are
    evaluated at the nearest point inside. A failed evaluation counts as the worst of its population.
    Install evosax with `pip install "zojax[search]"`.

    If a strategy's formulas break down, it proposes NaN, and all later evaluations fail. "LM_MA_ES" does so
    with a population_size above 2 d.

    Args:
      strategy: a class of `evosax.algorithms`, or its name: "CMA_ES", "Sep_CMA_ES", "SNES", "SimpleES",
        "DifferentialEvolution", "PSO", ... Or a function (population_size=, solution=) -> strategy; the
        solution has shape (d,).
      population_size: points of one ask. With `num_populations`, points of each population.
      **settings: arguments of the strategy's constructor, such as optimizer or num_populations, and
        parameters with other values than the default, such as std_init. Parameters may be traced.

    Raises:
      ImportError: evosax is not installed.
      TypeError: strategy is not a class, a name or a function; the strategy needs further settings.
      ValueError: an unknown strategy or setting; a population_size below 2, or one that the strategy
        refuses; a space that is not continuous.

    References:
      Lange, `evosax: JAX-based evolution strategies <https://arxiv.org/abs/2212.04180>`_, 2022.

    >>> from zojax import search
    >>> found = search.minimize(lambda x: ((x - 0.3) ** 2).sum(), search.uniform(-1, 1, (3,)),
    ...                         search.from_evosax("CMA_ES", 8), budget=400, key=0)
    >>> bool(found.best_value < 1e-3)
    True
    """
    make = _maker(strategy)
    if require_count("population_size", population_size) < 2:
        raise ValueError(f"population_size must be at least 2, got {population_size}.")
    arguments, parameters = _sorted(make, settings)
    num_populations = arguments.get("num_populations", 1)
    batch_size = population_size * require_count("num_populations", num_populations)

    construct = _Remembered(partial(_construct, make, population_size, batch_size, arguments))
    build = partial(_build, construct, make, parameters)
    init, ask, tell = partial(_init, build, batch_size), partial(_ask, build), partial(_tell, build)
    return Algorithm(init, ask, tell, recommended, _inject, batch_size=batch_size)


Build = Callable[[int], tuple[Any, Any]]  # dimension -> (strategy, parameters)


def _construct(
    make: Callable, population_size: int, batch_size: int, arguments: dict, d: int, dtype
):
    """(strategy, its default parameters). Strategies compute with numbers that must not be traced."""
    with jax.ensure_compile_time_eval():
        solution = jnp.zeros(d, dtype)
        try:
            algorithm = make(population_size=population_size, solution=solution, **arguments)
        except AssertionError as error:
            raise ValueError(
                f"{_name(make)} with population_size {population_size}: {error}"
            ) from error
        points = getattr(algorithm, "total_population_size", algorithm.population_size)
        if points != batch_size:
            raise ValueError(
                f"{_name(make)} makes {points} points for a population_size of {population_size}, not "
                f"{batch_size}: pass its num_populations to from_evosax."
            )
        return algorithm, algorithm.default_params


def _build(construct: Callable, make: Callable, parameters: dict, d: int):
    """(strategy, its parameters with the user's settings)."""
    algorithm, defaults = construct(d, float_dtype())
    unknown = [name for name in parameters if not hasattr(defaults, name)]
    if unknown:
        options = set(inspect.signature(make).parameters) - {"population_size", "solution"}
        known = ", ".join(sorted({*vars(defaults), *options}))
        raise ValueError(f"{_name(make)} has no setting {unknown[0]!r}; it has {known}.")
    spread = {"std_init": SPREAD} if hasattr(defaults, "std_init") else {}
    return algorithm, defaults.replace(**(spread | parameters))


def _init(build: Build, batch_size: int, key, space: Space, budget: int) -> EvosaxState:
    del budget
    if not space.is_continuous:
        raise ValueError(
            f"evosax searches continuous spaces, got a space with other coordinates:\n{space}\n"
            "Use search.sracos(), which takes any space."
        )
    d = space.dimension
    algorithm, params = build(d)
    key, sample_key, init_key = jax.random.split(key, 3)
    population = jax.random.uniform(sample_key, (batch_size, d), float_dtype())
    return EvosaxState(
        seed=jax.random.bits(key, (2,), jnp.uint32),
        strategy=_start(algorithm, init_key, population, jnp.zeros(batch_size), params),
        params=jax.tree.map(jnp.asarray, params),
        told=jnp.int32(0),
        population=population,
        x=space.clip(bounds_of(space)[0]),
        value=jnp.asarray(jnp.inf, float_dtype()),
    )


def _ask(build: Build, space: Space, state: EvosaxState):
    algorithm, _ = build(space.dimension)
    key = _key_of(state, 2 * state.told)
    population, strategy = algorithm.ask(key, state.strategy, state.params)
    if _has_population(algorithm):
        # The strategy starts from its first population, which has no values yet.
        first = state.told == 0
        population = jnp.where(first, state.population, population)
        strategy = select(first, state.strategy, strategy)
    low, _ = bounds_of(space)
    x = space.clip(low + span_of(space) * population)
    return x, state._replace(strategy=strategy, population=population)


def _tell(build: Build, space: Space, state: EvosaxState, x, values) -> EvosaxState:
    algorithm, _ = build(space.dimension)
    failed = ~jnp.isfinite(values)
    worst = jnp.max(jnp.where(failed, -jnp.inf, values))
    fitness = jnp.where(failed, jnp.where(jnp.isfinite(worst), worst, 0.0), values)
    key = _key_of(state, 2 * state.told + 1)
    # Told the clipped points, a distribution learns the bounds.
    inside = space.to_unit(x)
    strategy, _ = algorithm.tell(key, inside, fitness, state.strategy, state.params)
    if _has_population(algorithm):
        begun = _start(algorithm, key, inside, fitness, state.params)
        strategy = select(state.told == 0, begun, strategy)
    i = jnp.argmin(values)
    state = state._replace(strategy=strategy, told=state.told + 1)
    return keep_best(state, x[i], values[i])


def _inject(space: Space, state: EvosaxState, x, value) -> EvosaxState:
    """Into the recommendation, and, before the first population, into the start."""
    early = (value < state.value) & (state.told == 0)
    point = space.to_unit(x)
    population = jnp.where(early, state.population.at[0].set(point), state.population)
    strategy = state.strategy
    if hasattr(strategy, "mean"):
        strategy = strategy.replace(mean=jnp.where(early, point, strategy.mean))
    return keep_best(state._replace(population=population, strategy=strategy), x, value)


def _maker(strategy) -> Callable:
    """The strategy's class or function."""
    try:
        from evosax import algorithms
    except ImportError as error:
        raise ImportError('from_evosax needs evosax: pip install "zojax[search]".') from error
    if callable(strategy):
        return strategy
    if not isinstance(strategy, str):
        raise TypeError(
            f"strategy must be a class of evosax, its name or a function, got {strategy!r}: "
            "pass the class and its settings; the dimension comes from the space."
        )
    if strategy not in algorithms.algorithms:
        known = ", ".join(sorted(algorithms.algorithms))
        raise ValueError(f"evosax has no strategy {strategy!r}; it has {known}.")
    return algorithms.algorithms[strategy]


def _sorted(make: Callable, settings: dict) -> tuple[dict, dict]:
    """(arguments of the constructor, parameters)."""
    signature = inspect.signature(make).parameters
    named = {n: p for n, p in signature.items() if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}
    needed = {name for name, p in named.items() if p.default is p.empty}
    missing = needed - {"population_size", "solution", *settings}
    if missing:
        name = sorted(missing)[0]
        raise TypeError(f"{_name(make)} needs {name}: pass from_evosax(..., {name}=...).")
    arguments = {name: value for name, value in settings.items() if name in signature}
    if isinstance(make, type) and "std_schedule" in signature:
        arguments = {"std_schedule": _constant_spread} | arguments
    return arguments, {name: v for name, v in settings.items() if name not in signature}


class _Remembered:
    """A function that remembers its results. A copy begins without any."""

    def __init__(self, fun: Callable):
        self.fun = fun
        self.kept: dict[tuple, Any] = {}

    def __call__(self, *key):
        if key not in self.kept:
            self.kept[key] = self.fun(*key)
        return self.kept[key]

    def __reduce__(self):
        return type(self), (self.fun,)


def _constant_spread(generation) -> float:
    del generation
    return SPREAD


def _name(make: Callable) -> str:
    return getattr(make, "__name__", repr(make))


def _key_of(state: EvosaxState, draw) -> jax.Array:
    """The key of a draw. The state holds plain arrays, which any format can save."""
    return jax.random.fold_in(jax.random.wrap_key_data(state.seed, impl="threefry2x32"), draw)


def _has_population(algorithm) -> bool:
    return not hasattr(algorithm, "get_mean")


def _start(algorithm, key, population, fitness, params):
    if _has_population(algorithm):
        return algorithm.init(key, population, fitness, params)
    middle = jnp.full(population.shape[1], 0.5, population.dtype)
    if hasattr(algorithm, "num_populations"):
        middle = jnp.broadcast_to(middle, (algorithm.num_populations, len(middle)))
    return algorithm.init(key, middle, params)
