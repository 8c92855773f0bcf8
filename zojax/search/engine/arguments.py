"""Checks of the arguments of `minimize`."""

import math
import warnings
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from zojax._checks import require_count, require_flag, require_number
from zojax.search.algorithms import Algorithm, asracos, default_algorithm
from zojax.search.engine.pending import is_shut_down
from zojax.search.engine.traceability import is_traceable
from zojax.search.spaces import Space


def choose_algorithm(algorithm, space: Space, budget: int, executor) -> Algorithm:
    """The user's algorithm, or what to use without one."""
    if algorithm is None:
        algorithm = default_algorithm(space, budget) if executor is None else asracos()
    if not isinstance(algorithm, Algorithm):
        raise TypeError(
            f"algorithm must be one of zojax.search, such as sracos(), got {algorithm!r}."
        )
    if executor is not None and algorithm.batch_size * algorithm.in_flight == 1:
        warnings.warn(
            "executor has one evaluation to run at a time: this algorithm waits for each value. "
            "Pass search.asracos(in_flight=...), or one with batches, such as search.random_search(8).",
            stacklevel=3,
        )
    return algorithm


def is_compiled(jit, executor, fun: Callable, space: Space, args, with_key: bool) -> bool:
    """Whether the search is to be one program, as the user says or as `fun` allows."""
    if jit is None:
        jit = executor is None and is_traceable(fun, space, args, with_key)
    require_flag("jit", jit)
    if jit and executor is not None:
        raise ValueError("executor is for functions on the host: pass jit=False with it.")
    if jit:
        _require_arrays(args)
    return jit


def require_no_tracers(*inputs) -> None:
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(inputs)):
        raise TypeError(
            "minimize cannot be called inside jax.jit, jax.vmap or another transformation: pass repeats= "
            "for several runs, or write the loop by hand, with the algorithm's init, ask and tell."
        )


def require_callables(fun, executor, callback) -> None:
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


def require_numbers(target, patience, time_budget) -> None:
    for name, value in (("target", target), ("time_budget", time_budget)):
        if value is None:
            continue
        require_number(name, value)
        if not math.isfinite(value):
            raise ValueError(f"{name} must be finite, got {value}; leave it out to have none.")
    if time_budget is not None and time_budget <= 0:
        raise ValueError(f"time_budget must be positive seconds, got {time_budget}.")
    if patience is not None:
        require_count("patience", patience, most=math.inf)


def as_list(name: str, value) -> list:
    """A list, tuple or array as a list; None is empty."""
    if value is None:
        return []
    is_list = isinstance(value, (list, tuple, np.ndarray, jax.Array))
    if not is_list or getattr(value, "ndim", 1) == 0:
        raise TypeError(f"{name} must be a list, one entry a point, got {value!r}.")
    return list(value)


def encode_points(space: Space, points: list) -> np.ndarray:
    """The init_points as rows."""
    rows = np.zeros((len(points), space.dimension))
    for i, point in enumerate(points):
        try:
            rows[i] = space.encode(point)
        except (TypeError, ValueError) as error:
            error.add_note(f"This is init_points[{i}].")
            raise
    return rows


def known_values_of(init_values, count: int, sign: float) -> np.ndarray | None:
    """What `minimize` is to know already, lower is better; failures are inf."""
    if init_values is None:
        return None
    values = as_list("init_values", init_values)
    if len(values) != count:
        raise ValueError(
            f"init_values must hold one value for each of the {count} init_points, "
            f"got {len(values)}."
        )
    try:
        values = sign * np.reshape(np.asarray(values, float), count)
    except (TypeError, ValueError) as error:
        raise TypeError(f"init_values must be numbers, got {init_values!r}.") from error
    return np.where(np.isfinite(values), values, np.inf)


def _require_arrays(args) -> None:
    for leaf in jax.tree.leaves(args):
        try:
            jnp.result_type(leaf)
        except TypeError as error:
            raise TypeError(
                f"args of a traced function must be arrays, got {leaf!r}: pass jit=False, or bind it, "
                "functools.partial(fun, ...)."
            ) from error
