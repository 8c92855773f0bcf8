"""`search.minimize`: a whole search in one call."""

import os
import time
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import nullcontext
from typing import Any

import jax

from zojax._checks import require_count
from zojax._evaluation import require_limits
from zojax._failures import as_catch, attach
from zojax._keys import as_key
from zojax._numerics import float_dtype
from zojax._trees import PyTree
from zojax.search.algorithms._algorithm import Algorithm
from zojax.search.engine import arguments, calls
from zojax.search.engine.constraint_rows import Constraints, count_of, with_constraints
from zojax.search.engine.device import on_device
from zojax.search.engine.front_result import front_result_of
from zojax.search.engine.host import on_host
from zojax.search.engine.host_programs import numpy_programs
from zojax.search.engine.journal import Journal, identity_of
from zojax.search.engine.outcome import Outcome
from zojax.search.engine.overflow import warn_of_overflow
from zojax.search.engine.plan import plan
from zojax.search.engine.reporter import Reporter
from zojax.search.engine.result import SearchProgress, SearchResult, result_of
from zojax.search.engine.task import Clock, Problem, SearchState, SearchTask
from zojax.search.engine.traceability import traced_anew
from zojax.search.pruners import Pruner
from zojax.search.spaces import space as as_space

FEW = 1000  # evaluations of all runs that take less time on the host than XLA takes to compile a search


def minimize(
    fun: Callable,
    space: PyTree,
    algorithm: Algorithm | None = None,
    *,
    budget: int | None = None,
    key: int | jax.Array | None = None,
    args: tuple = (),
    init_points: list | None = None,
    init_values: list | None = None,
    target: float | None = None,
    patience: int | None = None,
    time_budget: float | None = None,
    maximize: bool | tuple[bool, ...] = False,
    objectives: int | None = None,
    constraints: Constraints = None,
    repeats: int = 1,
    jit: bool | None = None,
    with_key: bool = False,
    has_aux: bool = False,
    batched: bool = False,
    executor: Executor | None = None,
    timeout: float | None = None,
    retries: int = 0,
    catch: tuple[type[Exception], ...] = (),
    pruner: Pruner | None = None,
    callback: Callable[[SearchProgress], Any] | None = None,
    progress: bool = False,
    log: str | os.PathLike[str] | None = None,
    state: SearchState | None = None,
) -> SearchResult:
    """Searches a space for the point with the least value of `fun`, within `budget` evaluations.

    If JAX can trace `fun`, the whole search is one compiled program. That takes seconds, so a search
    of at most 1,000 evaluations in all compiles `fun` alone. Other functions run on the host, one point at
    a time. With an executor, several points run at once: a batch, or as many as the algorithm keeps in
    flight (`search.asracos`).

    **Failures.** An evaluation that is not finite, or on the host raises or takes longer than `timeout`,
    counts as inf and is reported. The search goes on, unless the first 10 evaluations (or all, if fewer)
    raise the same type of exception or return no number. Then that exception is raised. Pass `catch` for
    exceptions that `fun` raises on purpose.

    **Ends.** A keyboard interrupt ends the search, which returns the result so far. So does an executor
    that breaks, is shut down or cancels an evaluation. Evaluations that still run are cancelled: executors
    of `zojax.executors` end them, others finish them. Any other exception, such as a callback's, is raised
    with an attribute `partial_result`, the `SearchResult` so far. A compiled search notices an interrupt
    only with a callback, a bar or a time budget. Without these, the current run is lost.

    **Tracing.** As under `jax.jit`, globals and closures are read when `fun` is traced, and not again in
    later searches: pass changing values in `args`. Methods and callable objects are traced in every call.
    `fun` runs on the host if two traces differ (it draws from a generator of Python or NumPy, reads a clock
    or counts its calls), or if `args` are not arrays.

    **Finite spaces.** No point is evaluated twice, unless the algorithm is for noisy functions, or
    `with_key` is given. In a large space this is a short attempt, not a guarantee. A space of up to 65,536
    points ends after its last point.

    **Constraints.** A point is feasible if all constraints are at most 0. `best` is feasible if any
    evaluated point was; otherwise it has the least violation, and `message` and `violation` say so.
    Smooth searches of continuous spaces (`quasi_newton`, the default then, and `cma_es`) minimize an
    augmented Lagrangian. All others prefer feasible points, then the smaller violation (Deb 2000). A
    constrained search keeps no evaluations for its answer.

    **Journal.** With `log="run.jsonl"`, every evaluation becomes a line of JSON, at once. The same call
    goes on after a kill, and evaluates only the rest. `time_budget` counts per call.

    **Noise.** A search counts as noisy with `with_key`, or with an algorithm for noisy functions
    (`cma_es(noisy=True)`, `snes`, `ssracos`, `resample`, `ponss`). From a budget of 100 on, it keeps 1 in
    64 evaluations, at least 4, for the recommended point: `best_value` is their mean, `best_error` its
    standard error.

    **Several objectives.** With `objectives=2` or more, `fun` returns that many values, as a tuple or an
    array, and the result is a `FrontResult`. The default algorithm is `search.nsga2(objectives)`. An
    evaluation fails if one of its values is not finite. Several runs make one front.

    **Pruning.** With a `pruner`, `fun(point, *args, report=report)` runs on the host and calls
    `report(step, value)` now and then. The call raises `search.Pruned` if the evaluation should stop. Its
    last reported value is then its value.

    **Precision.** On the host, algorithms see float64 values (from 1,000 coordinates on, float32). For a
    traced function, they see float32 values, unless x64 is enabled, and integers have 32 bits.

    The guide "Search in detail" has examples of all of these.

    Args:
      fun: (point, *args) -> scalar, or one value for each objective. On the host, points hold Python
        scalars, options and NumPy arrays (float64).
      space: a pytree of domains (`search.uniform`, ...) or a `search.Space`.
      algorithm: `search.sracos()`, ... By default `search.default_algorithm(space, budget)`, in batches of
        as many points as an executor has workers.
      budget: most evaluations of a run, with those of `init_points` without values. None if `time_budget`,
        `target` or `patience` ends the run; the algorithm then plans 1000 evaluations a coordinate, at most
        10^6, and a compiled search keeps no points.
      key: an int or a JAX key. By default a random int, the `key` of the result.
      args: further arguments of `fun`, a tuple; arrays or pytrees of arrays if `fun` is traced.
      init_points: points to start from, each in the user's form. Leaves that are missing or None are
        drawn.
      init_values: their values, if known. They cost no evaluations.
      target: end a run once its best value is at least this good. For one objective.
      patience: end a run after this many evaluations without improvement. For one objective.
      time_budget: seconds until the search ends, including compilation. It ends while evaluations run;
        without an executor, once compiled code in them returns.
      maximize: search for the largest value instead. With several objectives, one flag for all, or a tuple
        with one for each.
      objectives: how many values `fun` returns. By default, as many as the algorithm takes, or 1.
      constraints: a function (point, *args) -> number, or several; or how many numbers `fun` returns beside
        its value, as (value, constraints). For one objective.
      repeats: independent runs, side by side in one program when compiled.
      jit: whether to compile the whole search. By default, JAX tries to trace `fun`, with two calls beside
        the budget whose point holds tracers: pass False if a call is expensive or has side effects. Pass
        True if you repeat a small search many times with the same space and budget.
      with_key: call `fun(point, *args, key=key)` with a new key for every evaluation.
      has_aux: `fun`, on the host, returns (value, attributes). The history keeps the attributes.
      batched: `fun`, on the host, takes all points that the algorithm proposes together, as one pytree
        whose leaves have a leading axis, and returns their values (n,). Attributes are a list of n, or a
        pytree with leading axes. The default algorithm then proposes 4 + 3 ln d points together.
      executor: for host functions, from `concurrent.futures`: processes, threads or a cluster, see
        `zojax.executors`.
      timeout: seconds of an evaluation on the host, counted from when a worker gets it. A late call is
        ended, or left behind in a thread.
      retries: how often an evaluation on the host is made again after it raised or was late, except after
        exceptions in `catch`.
      catch: exception types that always count as failed evaluations, on the host.
      pruner: a rule that ends bad evaluations early, such as `search.successive_halving(...)`. For
        functions on the host and one objective.
      callback: called with a `SearchProgress`, about 100 times a run, or, unless the whole search is
        compiled, after every evaluation. A true result ends the search with all its runs.
      progress: show a progress bar (needs tqdm).
      log: the path of a journal, new or of the same search on the host.
      state: the `search_state` of an earlier result. The algorithm goes on for `budget` more evaluations,
        from its state, memory and best point. The history has only the new evaluations.

    Raises:
      ValueError: a bad argument; the message has its name, its value and the remedy. A journal of another
        search, that is damaged before its last line, or that another process writes.
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
    space, ends = as_space(space), {"target": target, "patience": patience}
    limit, planned = arguments.as_budget(budget, space, time_budget=time_budget, **ends)
    if state is not None:
        state = arguments.as_state(state)
        planned = state.budget
    arguments.require_no_tracers(key, args, init_points, init_values)
    arguments.require_callables(fun, executor, callback, pruner)
    catch = as_catch(catch)
    flags = {"with_key": with_key, "progress": progress, "has_aux": has_aux, "batched": batched}
    arguments.require_settings(**ends, time_budget=time_budget, args=args, **flags)
    seconds_of_call = require_limits(timeout, retries, executor)
    of_calls = {"executor": executor, "timeout": timeout, "retries": retries, "pruner": pruner}
    if batched:
        arguments.require_unbatched(**of_calls)
    algorithm = arguments.choose_algorithm(
        algorithm, space, planned, executor, objectives, batched, count_of(constraints), with_key
    )
    for_one = ends | {"pruner": pruner, "state": state, "constraints": constraints}
    arguments.require_one_objective(algorithm.objectives, **for_one)
    repeats = require_count("repeats", repeats)
    sign = arguments.sign_of(maximize, algorithm.objectives)
    problem = Problem(fun, space, algorithm, limit, repeats, sign, with_key, planned)
    if constraints is not None:
        arguments.require_unconstrained(init_values=init_values, pruner=pruner)
        problem = with_constraints(problem, constraints, has_aux)
    on_host_only = of_calls | {"log": log, "has_aux": has_aux, "batched": batched}
    traced = arguments.is_compiled(jit, problem, args, **on_host_only)
    problem = problem._replace(fun=traced_anew(problem.fun) if traced else problem.fun)
    clock = None if time_budget is None else Clock(time_budget, time.monotonic() + time_budget)
    with nullcontext() if log is None else Journal(log) as journal:
        seed = arguments.as_seed(key, state, journal)
        starts = arguments.starts_of(problem, init_points, init_values, as_key(seed))
        arguments.require_covered(limit, algorithm, starts)
        problem, reserve, exhausts, state = plan(problem, starts, state)
        bar = progress and min(problem.budget, problem.planned) + reserve
        with Reporter(problem, callback, bar, clock) as report:
            task = SearchTask(
                problem=problem,
                key=arguments.key_of(seed, state),
                args=args,
                starts=starts,
                target=None if target is None else problem.shown(target),
                patience=patience,
                # Without a budget, a compiled search has no room for its whole history at once.
                report=report if report.is_wanted or (traced and budget is None) else None,
                clock=clock,
                reserve=reserve,
                catch=catch,
                has_aux=has_aux,
                batched=batched,
                journal=journal,
                state=state,
                pruner=pruner,
                timeout=seconds_of_call,
                retries=retries,
            )
            if journal is not None:
                journal.begin(identity_of(task, executor), seed)
            outcome = _run(task, executor, traced, jit)
    if exhausts and outcome.message == "budget spent":
        outcome = outcome._replace(message=f"space exhausted: it has {space.size} points")
    return _checked(task, outcome, seed, planned, traced)


def _checked(task: SearchTask, outcome: Outcome, seed: Any, budget: int, traced: bool) -> Any:
    """The result, after a warning of overflow. Raises what ended the search, with the result so far."""
    problem = task.problem
    result = (front_result_of if problem.is_front else result_of)(task, outcome, seed, budget)
    if outcome.raised is not None:
        attach(outcome.raised, result)
        raise outcome.raised
    if traced and not problem.with_key and not problem.value_shape:
        warn_of_overflow(problem, task.args, result)
    return result


def _run(task: SearchTask, executor: Executor | None, traced: bool, jit: bool | None) -> Outcome:
    """As one program, or on the host, where a function that JAX traced is compiled alone."""
    if traced and (jit or not _starts_faster_on_host(task)):
        return on_device(task)
    callee = calls.compiled(task.problem) if traced else calls.plain(task.problem)
    return on_host(task, executor, callee)


def _starts_faster_on_host(task: SearchTask) -> bool:
    """Whether so few evaluations take less time on the host than XLA takes to compile the search."""
    problem = task.problem
    few = (problem.budget + task.reserve) * problem.runs <= FEW
    inputs = problem.algorithm, problem.space, problem.planned, task.key
    return few and bool(numpy_programs(*inputs, float_dtype()))
