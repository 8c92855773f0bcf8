"""Checks of the arguments of `minimize`."""

import math
import secrets
from concurrent.futures import Executor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from zojax._checks import brief, require_count, require_flag, require_kind, require_number
from zojax._evaluation import require_executor, workers_of
from zojax._keys import as_key
from zojax._warnings import warn
from zojax.search.algorithms import Algorithm, default_algorithm, nsga2, quasi_newton
from zojax.search.algorithms._algorithm import require_algorithm
from zojax.search.engine.journal import Journal
from zojax.search.engine.partial_points import completed
from zojax.search.engine.task import Problem, SearchState, Starts, first_state
from zojax.search.engine.traceability import is_traceable
from zojax.search.pruners import Pruner
from zojax.search.spaces import Space

WORKERS = 4  # of an executor that does not say
LARGEST_BUDGET = 2**30  # so that int32 counts the evaluations of the budget and of one more batch
PLANNED = 1000  # evaluations a coordinate that an algorithm plans without a budget
MOST_PLANNED = 10**6


def as_budget(budget: Any, space: Space, **ends: Any) -> tuple[int, int]:
    """(most evaluations of a run, evaluations that the algorithm plans)."""
    if budget is None:
        if all(end is None for end in ends.values()):
            raise ValueError(
                f"budget must be given, or one of {', '.join(ends)}, which then ends the search."
            )
        return LARGEST_BUDGET, min(PLANNED * space.dimension, MOST_PLANNED)
    budget = require_count("budget", budget)
    if budget > LARGEST_BUDGET:
        raise ValueError(
            f"budget must be at most 2^30, got {budget}: pass time_budget or patience to end a run before."
        )
    return budget, budget


def as_seed(key: Any, state: SearchState | None, journal: Journal | None) -> Any:
    """The key. In place of None, that of an earlier part of the search, or a new int."""
    if key is None and journal is not None:
        key = journal.seed
    if key is None and state is not None:
        key = jax.random.wrap_key_data(jnp.asarray(state.key))
    return secrets.randbits(32) if key is None else key


def key_of(seed: Any, state: SearchState | None) -> jax.Array:
    """The key of a search. After an earlier search, keys of evaluations are new ones."""
    key = as_key(seed)
    return key if state is None else jax.random.fold_in(key, state.evaluations)


def choose_algorithm(
    algorithm: Algorithm | None,
    space: Space,
    budget: int,
    executor: Executor | None,
    objectives: int | None,
    batched: bool = False,
    constraints: int = 0,
    with_key: bool = False,
) -> Algorithm:
    """The user's algorithm, or the default for this number of objectives."""
    objectives = None if objectives is None else require_count("objectives", objectives)
    workers = 1 if executor is None else workers_of(executor) or WORKERS
    size = 4 + int(3 * math.log(space.dimension)) if batched else workers
    if algorithm is None and (objectives or 1) > 1:
        at_once = {"batch_size" if batched else "in_flight": min(size, budget)}
        algorithm = nsga2(objectives or 1, **at_once)
    elif algorithm is None:
        size = min(size, budget)
        if constraints and space.is_continuous and space.dimension > 1:
            algorithm = quasi_newton(batch_size=size)
        else:
            algorithm = default_algorithm(space, budget, batch_size=size, noisy=with_key)
    require_algorithm("algorithm", algorithm)
    if objectives not in (None, algorithm.objectives):
        raise ValueError(
            f"algorithm must take objectives = {objectives}, got one for {algorithm.objectives}: pass "
            f"search.nsga2({objectives}) for several objectives, or leave algorithm out."
        )
    if batched and algorithm.batch_size == 1:
        warn(
            "batched gets one point at a time: this algorithm waits for each value. Pass one with "
            "batches, such as search.cma_es(batch_size=8)."
        )
    if executor is not None and algorithm.batch_size * algorithm.in_flight == 1:
        warn(
            "executor has one evaluation to run at a time: this algorithm waits for each value. "
            "Pass one with batches, such as search.portfolio(batch_size=8), or asracos(in_flight=8)."
        )
    return algorithm


def is_compiled(jit: bool | None, problem: Problem, args: tuple, **for_the_host: Any) -> bool:
    """Whether the search runs as one compiled program: the user's choice, or if JAX can trace `fun`."""
    on_host = [name for name, value in for_the_host.items() if value not in (None, False)]
    if jit is None:
        jit = not on_host and is_traceable(problem, args)
    require_flag("jit", jit)
    if jit and on_host:
        raise ValueError(f"{on_host[0]} is for functions on the host: pass jit=False with it.")
    for leaf in jax.tree.leaves(args) if jit else ():
        try:
            jnp.result_type(leaf)
        except TypeError as error:
            raise TypeError(
                f"args of a traced function must be arrays, got {leaf!r}: pass jit=False, or bind it, "
                "functools.partial(fun, ...)."
            ) from error
    return jit


def require_no_tracers(*inputs: Any) -> None:
    """Raises inside a transformation of JAX."""
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(inputs)):
        raise TypeError(
            "minimize cannot be called inside jax.jit, jax.vmap or another transformation: pass repeats= "
            "for several runs, or write the loop by hand, with the algorithm's init, ask and tell."
        )


def require_callables(fun: Any, executor: Any, callback: Any, pruner: Any = None) -> None:
    """Raises unless functions are callable and the executor takes work."""
    if not callable(fun):
        raise TypeError(f"fun must be a function of a point, got {fun!r}.")
    if callback is not None and not callable(callback):
        raise TypeError(f"callback must be a function of a SearchProgress, got {callback!r}.")
    require_executor(executor)
    if pruner is not None:
        require_kind("pruner", pruner, Pruner)


def require_settings(target: Any, patience: Any, time_budget: Any, args: Any, **flags: Any) -> None:
    """Raises for stopping conditions that are no numbers, args that are no tuple, and bad flags."""
    for name, flag in flags.items():
        require_flag(name, flag)
    given = {"target": target, "time_budget": time_budget}
    for name, value in given.items():
        if value is not None:
            require_number(name, value)
            if not math.isfinite(value):
                raise ValueError(f"{name} must be finite, got {value}; leave it out to have none.")
    if time_budget is not None and time_budget <= 0:
        raise ValueError(f"time_budget must be positive seconds, got {time_budget}.")
    if patience is not None:
        require_count("patience", patience, most=math.inf)
    if not isinstance(args, (tuple, list)):
        raise TypeError(f"args must be a tuple of further arguments of fun, got {args!r}.")


def sign_of(maximize: Any, objectives: int) -> float | tuple[float, ...]:
    """-1 when maximizing, else 1: a number, or with several objectives one number each."""
    flags = maximize if isinstance(maximize, (tuple, list)) else (maximize,) * objectives
    if len(flags) != objectives:
        raise ValueError(
            f"maximize must be one flag, or one for each of the objectives = {objectives}, "
            f"got {maximize!r}."
        )
    for flag in flags:
        require_flag("maximize", flag)
    signs = tuple(-1.0 if flag else 1.0 for flag in flags)
    return signs if objectives > 1 else signs[0]


def require_unbatched(**of_one_call: Any) -> None:
    """Raises for settings of single calls, which `batched` excludes."""
    for name, value in of_one_call.items():
        if value:
            raise ValueError(f"batched and {name} exclude one another: a batch is one call of fun.")


def require_unconstrained(**settings: Any) -> None:
    """Raises for settings that constraints exclude."""
    for name, value in settings.items():
        if value is not None:
            raise ValueError(f"{name} and constraints exclude one another: leave {name} out.")


def require_one_objective(objectives: int, **settings: Any) -> None:
    """Raises for settings of a single value that are given with several objectives."""
    for name, value in settings.items():
        if objectives > 1 and value is not None:
            raise ValueError(
                f"{name} is for one objective, got {value!r} with {objectives}: "
                "leave it out, or end the search with a callback that returns True."
            )


def starts_of(problem: Problem, init_points: Any, init_values: Any, key: jax.Array) -> Starts:
    """The given points and values, encoded. Missing leaves are drawn. Failed values are inf."""
    space = problem.space
    points, any_drawn = completed(space, _as_list("init_points", init_points), key)
    if any_drawn and init_values is not None:
        raise ValueError(
            "init_points with init_values must have all leaves: a value belongs to a whole point."
        )
    x = np.zeros((len(points), space.dimension))
    for i, point in enumerate(points):
        try:
            x[i] = space.encode(point)
        except (TypeError, ValueError) as error:
            error.add_note(f"This is init_points[{i}].")
            raise
    if init_values is None:
        return Starts(x, None)
    given = _as_list("init_values", init_values)
    if len(given) != len(points):
        raise ValueError(
            f"init_values must hold one value for each of the {len(points)} init_points, "
            f"got {len(given)}."
        )
    shape = problem.value_shape
    try:
        values = problem.signed(np.reshape(np.asarray(given, float), (len(points), *shape)))
    except (TypeError, ValueError) as error:
        kind = f"tuples of {shape[0]} numbers" if shape else "numbers"
        raise TypeError(f"init_values must be {kind}, got {init_values!r}.") from error
    usable = np.isfinite(values)
    if shape:
        usable = np.all(usable, axis=1, keepdims=True)
    return Starts(x, np.where(usable, values, np.inf))


def require_covered(budget: int, algorithm: Algorithm, starts: Starts) -> None:
    """Raises if the budget is too small to evaluate the given points."""
    if starts.values is None and len(starts.x) * algorithm.samples > budget:
        times = "" if algorithm.samples == 1 else f", {algorithm.samples} times each"
        raise ValueError(
            f"budget must cover the {len(starts.x)} init_points{times}, got {budget}; "
            "pass their init_values if they are known."
        )


def as_state(state: Any) -> SearchState:
    """The end of an earlier search, with ints where a file has arrays."""
    if not isinstance(state, SearchState):
        raise TypeError(f"state must be the search_state of a result, got {brief(state)}.")
    return state._replace(
        evaluations=int(state.evaluations), budget=int(state.budget), planned=int(state.planned)
    )


def require_state(state: SearchState, algorithm: Algorithm, space: Space, runs: int) -> SearchState:
    """The earlier search's end; an error if it is of another search."""

    def init(key):
        return first_state(algorithm, space, state.planned, key)

    keys = jax.ShapeDtypeStruct(() if runs == 1 else (runs,), as_key(0).dtype)
    like = jax.eval_shape(init if runs == 1 else jax.vmap(init), keys)
    leaves, structure = jax.tree.flatten(state.algorithm)
    likes, expected = jax.tree.flatten(like)
    same = str(structure) == str(expected) and np.shape(state.x) == (runs, space.dimension)
    if not same or any(np.shape(a) != b.shape for a, b in zip(leaves, likes, strict=True)):
        raise ValueError(
            "state must come from a search of the same space, algorithm and repeats: pass them again, "
            f"got algorithm {algorithm.name}, repeats {runs} and the space\n{space}"
        )
    return state._replace(algorithm=jax.tree.unflatten(expected, leaves))


def _as_list(name: str, value: Any) -> list:
    """A list, tuple or array as a list. None is empty."""
    if value is None:
        return []
    is_list = isinstance(value, (list, tuple, np.ndarray, jax.Array))
    if not is_list or getattr(value, "ndim", 1) == 0:
        raise TypeError(f"{name} must be a list, one entry per point, got {value!r}.")
    return list(value)
