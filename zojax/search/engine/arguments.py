"""Checks of the arguments of `minimize`."""

import math
import warnings
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from zojax._checks import require_count, require_flag, require_number
from zojax.search.algorithms import Algorithm, asracos, default_algorithm
from zojax.search.algorithms._algorithm import require_algorithm
from zojax.search.engine.pending import is_shut_down
from zojax.search.engine.task import Starts
from zojax.search.engine.traceability import is_traceable
from zojax.search.spaces import Space

LARGEST_BUDGET = 2**30  # so that int32 counts the evaluations of the budget and of one more batch


def as_budget(budget: Any) -> int:
    """A count of evaluations."""
    budget = require_count("budget", budget)
    if budget > LARGEST_BUDGET:
        raise ValueError(
            f"budget must be at most 2^30, got {budget}: pass time_budget or patience to end a run before."
        )
    return budget


def choose_algorithm(
    algorithm: Algorithm | None,
    space: Space,
    budget: int,
    executor: Executor | None,
    with_key: bool,
) -> Algorithm:
    """The user's algorithm, or the default."""
    if algorithm is None:
        algorithm = (
            default_algorithm(space, budget, noisy=with_key) if executor is None else asracos()
        )
    require_algorithm("algorithm", algorithm)
    if executor is not None and algorithm.batch_size * algorithm.in_flight == 1:
        warnings.warn(
            "executor has one evaluation to run at a time: this algorithm waits for each value. "
            "Pass search.asracos(in_flight=...), or one with batches, such as search.random_search(8).",
            stacklevel=3,
        )
    return algorithm


def is_compiled(
    jit: bool | None,
    executor: Executor | None,
    fun: Callable,
    space: Space,
    args: tuple,
    with_key: bool,
) -> bool:
    """Whether the search runs as one compiled program: the user's choice, or if JAX can trace `fun`."""
    if jit is None:
        jit = executor is None and is_traceable(fun, space, args, with_key)
    require_flag("jit", jit)
    if jit and executor is not None:
        raise ValueError("executor is for functions on the host: pass jit=False with it.")
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


def require_callables(fun: Any, executor: Any, callback: Any) -> None:
    """Raises unless functions are callable and the executor takes work."""
    if not callable(fun):
        raise TypeError(f"fun must be a function of a point, got {fun!r}.")
    if callback is not None and not callable(callback):
        raise TypeError(f"callback must be a function of a SearchProgress, got {callback!r}.")
    if executor is not None and not callable(getattr(executor, "submit", None)):
        raise TypeError(
            "executor must be one of concurrent.futures, such as ThreadPoolExecutor(4), "
            f"got {executor!r}."
        )
    if is_shut_down(executor):
        raise ValueError(
            f"executor must take evaluations, got {executor!r}, which was shut down: keep it open "
            "until the search returns."
        )


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


def starts_of(space: Space, init_points: Any, init_values: Any, sign: float) -> Starts:
    """The given points and values, encoded. Failed values are inf."""
    points = _as_list("init_points", init_points)
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
    try:
        values = sign * np.reshape(np.asarray(given, float), len(points))
    except (TypeError, ValueError) as error:
        raise TypeError(f"init_values must be numbers, got {init_values!r}.") from error
    return Starts(x, np.where(np.isfinite(values), values, np.inf))


def require_covered(budget: int, algorithm: Algorithm, starts: Starts) -> None:
    """Raises if the budget is too small to evaluate the given points."""
    if starts.values is None and len(starts.x) * algorithm.samples > budget:
        times = "" if algorithm.samples == 1 else f", {algorithm.samples} times each"
        raise ValueError(
            f"budget must cover the {len(starts.x)} init_points{times}, got {budget}; "
            "pass their init_values if they are known."
        )


def _as_list(name: str, value: Any) -> list:
    """A list, tuple or array as a list. None is empty."""
    if value is None:
        return []
    is_list = isinstance(value, (list, tuple, np.ndarray, jax.Array))
    if not is_list or getattr(value, "ndim", 1) == 0:
        raise TypeError(f"{name} must be a list, one entry per point, got {value!r}.")
    return list(value)
