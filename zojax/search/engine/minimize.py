"""`search.minimize`: a whole search in one call, compiled where JAX can trace the function."""

import time
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any

import jax
import numpy as np

from zojax._checks import require_count, require_flag
from zojax._failures import as_catch
from zojax._keys import as_key
from zojax._trees import PyTree
from zojax.search.algorithms._algorithm import Algorithm
from zojax.search.engine.arguments import (
    as_list,
    choose_algorithm,
    encode_points,
    is_compiled,
    known_values_of,
    require_callables,
    require_no_tracers,
    require_numbers,
)
from zojax.search.engine.device import on_device
from zojax.search.engine.host import on_host
from zojax.search.engine.once import is_listed, never_twice
from zojax.search.engine.overflow import warn_of_overflow
from zojax.search.engine.reporter import Reporter
from zojax.search.engine.result import SearchProgress, SearchResult, result_of
from zojax.search.engine.task import Clock, Problem, Task, reserved
from zojax.search.engine.traceability import traced_anew
from zojax.search.spaces import space as as_space

LARGEST_BUDGET = 2**30  # so that int32 counts evaluations, and a batch more


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
    """Searches a space for the point where `fun` is least, within `budget` evaluations.

    A function that JAX can trace runs with the algorithm inside one compiled program; any other is called
    on the host, one point at a time, or as many at once as the algorithm keeps in flight
    (`search.asracos`) when an executor is given.

    An evaluation that is not finite, or raises on the host, counts as inf and is reported. It does not end
    the search, unless the first 10 evaluations (or all of fewer) raise the same type of exception or return
    no number: then that exception is raised. Pass `catch` for exceptions that belong to the function.

    A keyboard interrupt ends the search and returns the result so far. So does an executor that breaks, is
    shut down or cancels an evaluation. Any other exception, such as a callback's, is raised with an
    attribute `partial_result`, the `SearchResult` so far. A compiled search notices an interrupt where it
    has a callback, a bar or a time budget, and else loses the run that was going on.

    As under `jax.jit`, what a traced function reads besides its arguments (globals, closures) is read when
    it is traced, and not again in later searches with the same function: pass in `args` what changes.
    Methods and callable objects are traced anew by every call. A function that is not the same program
    when it is traced twice (it draws from a generator of Python's or NumPy's, reads a clock, counts its
    calls), or has arguments that are no arrays, is called on the host.

    No point of a finite space is evaluated twice, as far as a short search for another one goes, unless
    the algorithm is one for noisy functions or `with_key` is given: pass one of these where values are
    noisy. A space of up to 65,536 points ends when all of them were evaluated.

    A search counts as noisy with `with_key`, or with an algorithm for noisy functions (`snes`, `ssracos`,
    `resample`, `ponss`). From a budget of 100 on, such a search keeps 1 in 64 evaluations, 4 at least, to
    evaluate the recommended point: `best_value` is their mean, `best_error` its standard error. With any
    other algorithm a noisy function without a key is taken for one without noise.

    Algorithms are told float32 values unless x64 is enabled: subtract a large constant that they share.
    Integers of a compiled function have 32 bits then, and overflow silently. Where its values are integers,
    the best point is evaluated once more, on the host, and a warning says if the value differs: multiply
    as floats (`1.0 * n`).

    Args:
      fun: (point, *args) -> scalar. Host functions get Python scalars, options and NumPy arrays (float64).
      space: a pytree of domains (`search.uniform`, ...) or a `search.Space`.
      algorithm: `search.sracos()`, ...; if left out, `search.default_algorithm(space, budget)`, or
        `search.asracos()` where an executor is given.
      budget: evaluations of a run at most, those of `init_points` without values included.
      key: an int or a JAX key.
      args: further arguments of `fun`, a tuple; arrays or pytrees of them where it is traced.
      init_points: points to start from, each as the user's pytree.
      init_values: their values, if known already; they cost no evaluations.
      target: end a run once its best value is at least as good as this.
      patience: end a run after so many evaluations without improvement.
      time_budget: seconds after which the search ends; compiling counts. Evaluations that an executor has
        not finished by then are left behind.
      maximize: search for the largest value instead.
      repeats: independent runs, side by side in one program when compiled.
      jit: whether to trace `fun`; tried by default, with two calls beside the budget whose argument holds
        tracers: pass False where a call costs or has side effects. A traced function runs no Python per
        evaluation.
      with_key: call `fun(point, *args, key=key)`, a key of its own for every evaluation.
      executor: of `concurrent.futures`, for host functions; processes, threads, or a cluster's.
      catch: exception types that count as failed evaluations however often they are raised, on the host.
      callback: called with a `SearchProgress` some 100 times a run (host functions: after every
        evaluation); a true result ends the search, with all its runs.
      progress: show a bar (needs tqdm).

    Returns:
      A `SearchResult`.

    Raises:
      ValueError: a bad argument, with its name, its value and the remedy.
      TypeError: an argument of the wrong type; a space that holds something else than domains.
      KeyboardInterrupt: one that came before any evaluation was done.
      Exception: that of a callback, or of `fun` where all of its first 10 evaluations raised one like it.

    >>> from zojax import search
    >>> space = {"x": search.uniform(-5, 5), "kind": search.choice([1, 2, 3])}
    >>> result = search.minimize(lambda p: (p["x"] - p["kind"]) ** 2 + p["kind"], space,
    ...                          budget=300, key=0)
    >>> result.best["kind"], round(result.best["x"], 2), result.evaluations
    (1, 1.0, 300)
    """
    budget, repeats = require_count("budget", budget), require_count("repeats", repeats)
    if budget > LARGEST_BUDGET:
        raise ValueError(
            f"budget must be at most 2^30, got {budget}: time_budget or patience end a run before."
        )
    space = as_space(space)
    require_no_tracers(key, args, init_points, init_values)
    key = as_key(key)
    require_callables(fun, executor, callback)
    catch = as_catch(catch)
    for name, flag in (("maximize", maximize), ("with_key", with_key), ("progress", progress)):
        require_flag(name, flag)
    require_numbers(target, patience, time_budget)
    if not isinstance(args, (tuple, list)):
        raise TypeError(f"args must be a tuple of further arguments of fun, got {args!r}.")
    sign = -1.0 if maximize else 1.0
    points = as_list("init_points", init_points)
    known_x = encode_points(space, points)
    known_values = known_values_of(init_values, len(points), sign)
    algorithm = choose_algorithm(algorithm, space, budget, executor)
    if known_values is None and len(points) * algorithm.samples > budget:
        times = "" if algorithm.samples == 1 else f", {algorithm.samples} times each"
        raise ValueError(
            f"budget must cover the {len(points)} init_points{times}, got {budget}; "
            "pass their init_values if they are known."
        )
    # With a key, or an algorithm that repeats points, the value of a point is not known after one look.
    once = algorithm if with_key else never_twice(algorithm, space, budget)
    # Every point that is not known already, and those that were given for evaluation, each time.
    enough = space.size - len(np.unique(known_x, axis=0))
    enough += len(points) if known_values is None else 0
    exhausts = once is not algorithm and is_listed(space, budget) and enough <= budget
    jit = is_compiled(jit, executor, fun, space, args, with_key)
    is_noisy = with_key or algorithm.repeats_points
    reserve = reserved(algorithm, budget, len(points)) if is_noisy else 0
    problem = Problem(
        fun=traced_anew(fun) if jit else fun,
        space=space,
        algorithm=once,
        budget=int(enough) if exhausts else budget - reserve,
        runs=repeats,
        sign=sign,
        with_key=with_key,
    )
    clock = None if time_budget is None else Clock(time_budget, time.monotonic() + time_budget)
    with Reporter(problem, callback, progress and problem.budget + reserve, clock) as report:
        task = Task(
            problem=problem,
            key=key,
            args=args,
            known_x=known_x,
            known_values=known_values,
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
        outcome.raised.partial_result = result
        raise outcome.raised
    if jit and not with_key:
        warn_of_overflow(problem, args, result)
    return result
