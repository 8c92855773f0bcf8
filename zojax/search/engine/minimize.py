"""`search.minimize`: a whole search in one call."""

import time
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any

import jax
import numpy as np

from zojax._checks import require_count
from zojax._failures import as_catch, attach
from zojax._keys import as_key
from zojax._trees import PyTree
from zojax.search.algorithms._algorithm import Algorithm
from zojax.search.engine.arguments import (
    as_budget,
    choose_algorithm,
    is_compiled,
    require_callables,
    require_covered,
    require_no_tracers,
    require_settings,
    starts_of,
)
from zojax.search.engine.device import on_device
from zojax.search.engine.host import on_host
from zojax.search.engine.once import is_listed, never_twice
from zojax.search.engine.overflow import warn_of_overflow
from zojax.search.engine.reporter import Reporter
from zojax.search.engine.result import SearchProgress, SearchResult, result_of
from zojax.search.engine.task import Clock, Problem, SearchTask, Starts, reserved
from zojax.search.engine.traceability import traced_anew
from zojax.search.spaces import space as as_space


def minimize(
    fun: Callable,
    space: PyTree,
    algorithm: Algorithm | None = None,
    *,
    budget: int,
    key: int | jax.Array,
    args: tuple = (),
    init_points: list | None = None,
    init_values: list | None = None,
    target: float | None = None,
    patience: int | None = None,
    time_budget: float | None = None,
    maximize: bool = False,
    repeats: int = 1,
    jit: bool | None = None,
    with_key: bool = False,
    executor: Executor | None = None,
    catch: tuple[type[Exception], ...] = (),
    callback: Callable[[SearchProgress], Any] | None = None,
    progress: bool = False,
) -> SearchResult:
    """Searches a space for the point with the least value of `fun`, within `budget` evaluations.

    If JAX can trace `fun`, the whole search is one compiled program. Otherwise, `fun` runs on the host, one
    point at a time. With an executor, several points run at once, as many as the algorithm keeps in flight
    (`search.asracos`).

    **Failures.** An evaluation that is not finite, or raises on the host, counts as inf and is reported.
    The search goes on, unless the first 10 evaluations (or all, if fewer) raise the same type of exception
    or return no number. Then that exception is raised. Pass `catch` for exceptions that `fun` raises on
    purpose.

    **Ends.** A keyboard interrupt ends the search, which returns the result so far. So does an executor
    that breaks, is shut down or cancels an evaluation. Any other exception, such as a callback's, is raised
    with an attribute `partial_result`, the `SearchResult` so far. A compiled search notices an interrupt
    only with a callback, a bar or a time budget. Without these, the current run is lost.

    **Tracing.** As under `jax.jit`, globals and closures are read when `fun` is traced, and not again in
    later searches: pass changing values in `args`. Methods and callable objects are traced in every call.
    `fun` runs on the host if two traces differ (it draws from a generator of Python or NumPy, reads a clock
    or counts its calls), or if `args` are not arrays.

    **Finite spaces.** No point is evaluated twice, unless the algorithm is for noisy functions, or
    `with_key` is given. In a large space this is a short attempt, not a guarantee. A space of up to 65,536
    points ends after its last point.

    **Noise.** A search counts as noisy with `with_key`, or with an algorithm for noisy functions
    (`cma_es(noisy=True)`, `snes`, `ssracos`, `resample`, `ponss`). From a budget of 100 on, it keeps 1 in
    64 evaluations, at least 4, for the recommended point: `best_value` is their mean, `best_error` its
    standard error. Otherwise, `fun` is treated as noiseless.

    **Precision.** Algorithms see float32 values, unless x64 is enabled: subtract a large common constant.
    In a compiled function, integers then have 32 bits and overflow silently. If its values are integers,
    the best point is evaluated once more on the host, and a different value gives a warning: multiply as
    floats (`1.0 * n`).

    Args:
      fun: (point, *args) -> scalar. On the host, points hold Python scalars, options and NumPy arrays
        (float64).
      space: a pytree of domains (`search.uniform`, ...) or a `search.Space`.
      algorithm: `search.sracos()`, ... By default `search.default_algorithm(space, budget)`, or
        `search.asracos()` with an executor.
      budget: most evaluations of a run, with those of `init_points` without values.
      key: an int or a JAX key.
      args: further arguments of `fun`, a tuple; arrays or pytrees of arrays if `fun` is traced.
      init_points: points to start from, each in the user's form.
      init_values: their values, if known. They cost no evaluations.
      target: end a run once its best value is at least this good.
      patience: end a run after this many evaluations without improvement.
      time_budget: seconds until the search ends, including compilation. Evaluations that still run in an
        executor are left behind.
      maximize: search for the largest value instead.
      repeats: independent runs, side by side in one program when compiled.
      jit: whether to trace `fun`. By default, JAX tries, with two calls beside the budget whose point holds
        tracers: pass False if a call is expensive or has side effects. A traced function runs no Python per
        evaluation.
      with_key: call `fun(point, *args, key=key)` with a new key for every evaluation.
      executor: for host functions, from `concurrent.futures`: processes, threads or a cluster.
      catch: exception types that always count as failed evaluations, on the host.
      callback: called with a `SearchProgress`, about 100 times a run, or, on the host, after every
        evaluation. A true result ends the search with all its runs.
      progress: show a progress bar (needs tqdm).

    Raises:
      ValueError: a bad argument; the message has its name, its value and the remedy.
      TypeError: an argument of the wrong type; a space with a leaf that is not a domain.
      KeyboardInterrupt: an interrupt before the first evaluation.
      Exception: the callback's, or the one that all of the first 10 evaluations raised.

    >>> from zojax import search
    >>> space = {"x": search.uniform(-5, 5), "kind": search.choice([1, 2, 3])}
    >>> result = search.minimize(lambda p: (p["x"] - p["kind"]) ** 2 + p["kind"], space,
    ...                          budget=300, key=0)
    >>> result.best["kind"], round(result.best["x"], 2), result.evaluations
    (1, 1.0, 300)
    """
    budget, repeats = as_budget(budget), require_count("repeats", repeats)
    space = as_space(space)
    require_no_tracers(key, args, init_points, init_values)
    key = as_key(key)
    require_callables(fun, executor, callback)
    catch = as_catch(catch)
    flags = {"maximize": maximize, "with_key": with_key, "progress": progress}
    require_settings(target, patience, time_budget, args, **flags)
    sign = -1.0 if maximize else 1.0
    starts = starts_of(space, init_points, init_values, sign)
    algorithm = choose_algorithm(algorithm, space, budget, executor, with_key)
    require_covered(budget, algorithm, starts)
    jit = is_compiled(jit, executor, fun, space, args, with_key)
    fun = traced_anew(fun) if jit else fun
    problem, reserve, exhausts = _planned(
        Problem(fun, space, algorithm, budget, repeats, sign, with_key), starts
    )
    clock = None if time_budget is None else Clock(time_budget, time.monotonic() + time_budget)
    with Reporter(problem, callback, progress and problem.budget + reserve, clock) as report:
        task = SearchTask(
            problem=problem,
            key=key,
            args=args,
            starts=starts,
            target=None if target is None else sign * target,
            patience=patience,
            report=report if report.is_wanted else None,
            clock=clock,
            reserve=reserve,
            catch=catch,
        )
        outcome = on_device(task) if jit else on_host(task, executor)
    if exhausts and outcome.message == "budget spent":
        outcome = outcome._replace(message=f"space exhausted: it has {space.size} points")
    result = result_of(problem, outcome)
    if outcome.raised is not None:
        attach(outcome.raised, result)
        raise outcome.raised
    if jit and not with_key:
        warn_of_overflow(problem, args, result)
    return result


def _planned(problem: Problem, starts: Starts) -> tuple[Problem, int, bool]:
    """(the problem of a run, evaluations kept for its recommended point, whether it covers the space)."""
    space, algorithm, budget = problem.space, problem.algorithm, problem.budget
    # With a key, one value does not settle a point.
    once = algorithm if problem.with_key else never_twice(algorithm, space, budget)
    # Every unknown point once, and each given point without a value.
    enough = space.size - len(np.unique(starts.x, axis=0))
    enough += len(starts.x) if starts.values is None else 0
    exhausts = once is not algorithm and is_listed(space, budget) and enough <= budget
    reserve = reserved(algorithm, budget, len(starts.x)) if problem.is_noisy else 0
    budget = int(enough) if exhausts else budget - reserve
    return problem._replace(algorithm=once, budget=budget), reserve, exhausts
