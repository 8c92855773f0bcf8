"""A whole search as one compiled loop; several runs side by side."""

import time
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from zojax._call import PROGRAMS, kept_with_loss
from zojax._failures import unbatchable
from zojax._numerics import float_dtype
from zojax.search._random import evaluation_key, split
from zojax.search.engine.task import (
    Outcome,
    Problem,
    Task,
    first_state,
    keeps_points,
    mean_and_error,
    one_after_another,
    stopped_by,
)

REPORTS = 100
FIRST = 16  # evaluations of the first call where a clock is watched
MOMENT = 0.1  # seconds, at most, of a call that may grow


class Run(NamedTuple):
    """The loop's carry. With several runs, everything but the first field has an axis for them."""

    evaluations: jax.Array  # of each run, () int32
    state: Any
    begin: jax.Array  # evaluations before the first row of the histories, () int32
    values: jax.Array  # (rows, runs)
    points: jax.Array  # (rows, runs, d), empty when too large
    used: jax.Array  # (runs,) evaluations until the run stopped
    since: jax.Array  # (runs,) evaluations since the best value improved
    best: jax.Array  # (runs,)
    running: jax.Array  # (runs,) bool
    key: jax.Array  # of the evaluations


def on_device(task: Task) -> Outcome:
    """Runs the task with its function inside the program."""
    problem = task.problem
    if problem.runs > 1 and not problem.algorithm.runs_together:
        alone = task._replace(problem=problem._replace(runs=1))
        keys = split(task.key, problem.runs)
        return one_after_another(lambda key: on_device(alone._replace(key=key)), keys)
    budget = problem.budget
    stops = task.target is not None or task.patience is not None
    fixed = problem._replace(fun=None)  # the same for all functions
    programs = _programs(problem.fun)(fixed, stops)
    # NumPy outside the programs: every operation of JAX there would be a program of its own to load.
    known_x = np.asarray(task.known_x, float_dtype())
    free = task.known_values is not None  # values that are known already cost nothing
    values = task.known_values if free else np.zeros(0)
    if not free and len(known_x):
        known_x = np.repeat(known_x, problem.algorithm.samples, axis=0)
        values = programs.evaluate_known(known_x, task.args, task.key)
    values = np.asarray(values, float_dtype())
    target = np.asarray(-np.inf if task.target is None else task.target, float_dtype())
    patience = np.int32(min(budget + 1, task.patience or budget + 1))
    inputs = task.args, target, patience

    def start(length):
        return _starting(fixed, free, length)(task.key, known_x, values, target)

    if task.report is None:
        run = programs.advance(start(budget), np.int32(budget), *inputs)
        parts, why, ended_by = [_history(run)], None, None
    else:
        run, parts, why, ended_by = _in_parts(programs.advance_a_copy, start, inputs, task)
    if not free and len(known_x):
        shape = len(known_x), problem.runs
        parts = [
            (np.broadcast_to(values[:, None], shape), _as_points(problem, known_x)),
            *parts,
        ]
    outcome = _outcome(task, run, parts, why)
    if ended_by is not None:
        return stopped_by(ended_by, outcome)
    if outcome.stopped or not task.reserve:
        return outcome
    try:
        outcome = _look_again(programs.evaluate_again, task, run, outcome)
    except KeyboardInterrupt as error:
        return stopped_by(error, outcome)
    return _last_report(task, outcome)


def _in_parts(advance: Callable, start: Callable, inputs, task: Task):
    """(run, histories, why, exception): some 100 calls, a report after each.

    An interrupt, or an exception of the report, ends it between two calls. Where a clock is watched the
    calls begin short, and grow while they take less than a moment.
    """
    problem, budget = task.problem, task.problem.budget
    batch, longest = problem.algorithm.batch_size, max(1, budget // REPORTS)
    timed = task.clock is not None
    step = max(batch, min(longest, FIRST) if timed else longest)
    run = start(max(batch, longest))
    until, parts, why, ended_by = 0, {}, None, None
    try:
        while until < budget and why is None and np.asarray(run.running).any():
            until = min(budget, max(until + step, int(run.evaluations) + 1))
            began = time.monotonic()
            run = jax.block_until_ready(advance(run, np.int32(until), *inputs))
            seconds = time.monotonic() - began
            parts[until] = tuple(np.copy(h) for h in _history(run))  # not views of all rows
            run = run._replace(begin=run.evaluations)
            x, value = _recommendations(problem, run.state)
            i = int(np.argmin(value))
            why = task.report(int(run.evaluations), x[i], float(value[i]))
            if timed and len(parts) > 1:  # the first call may have compiled
                step = max(batch, min(longest, 2 * step) if seconds < MOMENT else step // 2)
    except BaseException as error:
        if not int(run.evaluations):
            raise
        ended_by = error
        parts[until] = parts.get(until) or _history(run)  # the last call may have come to its end
    return run, list(parts.values()) or [_history(run)], why, ended_by


def _history(run: Run) -> tuple[np.ndarray, np.ndarray]:
    """Values and points since `begin`."""
    count = int(run.evaluations) - int(run.begin)
    return np.asarray(run.values)[:count], np.asarray(run.points)[:count]


def _as_points(problem: Problem, x: np.ndarray) -> np.ndarray:
    """Points (n, d) that all runs were given, as in a history."""
    shape = len(x) if keeps_points(problem) else 0, problem.runs, problem.space.dimension
    return np.broadcast_to(x[: shape[0], None], shape)


def _outcome(task: Task, run: Run, parts: list, why: str | None) -> Outcome:
    x, value = _recommendations(task.problem, run.state)
    used, best = np.asarray(run.used), np.asarray(run.best)
    history, points = (p[0] if len(p) == 1 else np.concatenate(p) for p in zip(*parts, strict=True))
    stopped = why is not None
    if not stopped:
        why = "budget spent"
        if task.target is not None and np.any(best <= task.target):
            why = "target reached"
        elif np.any(used < task.problem.budget):
            why = f"no improvement for {task.patience} evaluations"
    return Outcome(
        x=x,
        value=value,
        value_error=np.full(len(value), np.nan) if task.problem.is_noisy else None,
        values=[history[:n, r].astype(np.float64) for r, n in enumerate(used)],
        points=[points[:n, r] for r, n in enumerate(used)] if keeps_points(task.problem) else None,
        state=run.state,
        message=why,
        stopped=stopped,
    )


def _look_again(evaluate: Callable, task: Task, run: Run, outcome: Outcome) -> Outcome:
    """The outcome after `reserve` evaluations of each run's recommended point, with their means."""
    x, used = outcome.x.astype(float_dtype()), np.asarray(run.used)
    batches = -(-task.reserve // task.problem.algorithm.batch_size)
    several = batches if task.clock is None else 1  # in one call, without a look at the clock
    calls = []
    for first in range(0, batches, several):
        calls.append(np.asarray(evaluate(several, x, used, np.int32(first), task.args, run.key)))
        if task.clock is not None and task.clock.why_stop():
            break
    again = np.concatenate(calls, axis=1)[:, : task.reserve].astype(np.float64)
    both = [mean_and_error(row, old) for row, old in zip(again, outcome.value, strict=True)]
    mean, error = np.transpose(both)
    points = outcome.points
    if points is not None:
        rows = np.repeat(x[:, None], again.shape[1], axis=1)
        points = [np.concatenate(both) for both in zip(points, rows, strict=True)]
    values = [np.concatenate(both) for both in zip(outcome.values, again, strict=True)]
    return outcome._replace(value=mean, value_error=error, values=values, points=points)


def _last_report(task: Task, outcome: Outcome) -> Outcome:
    """The outcome after a report of the recommended point's mean value."""
    if task.report is None:
        return outcome
    i = int(np.argmin(outcome.value))
    try:
        why = task.report(len(outcome.values[i]), outcome.x[i], float(outcome.value[i]))
    except BaseException as error:
        return stopped_by(error, outcome)
    return outcome if why is None else outcome._replace(message=why, stopped=True)


@lru_cache(PROGRAMS)
def _starting(problem: Problem, free: bool, length: int) -> Callable[..., Run]:
    return jax.jit(partial(_start, problem, free, length))


def _start(problem: Problem, free: bool, length: int, key, known_x, known_values, target) -> Run:
    """A run before its first call; `length` evaluations at most come in one."""
    runs, rows = problem.runs, max(1, length) + problem.algorithm.batch_size - 1

    def init(key):
        state = first_state(problem.algorithm, problem.space, problem.budget, key)

        def inject(state, known):
            return problem.algorithm.inject(problem.space, state, *known), None

        samples = 1 if free else problem.algorithm.samples
        means = jnp.mean(known_values.reshape(-1, samples), axis=1)
        return lax.scan(inject, state, (known_x[::samples], means))[0] if len(known_x) else state

    keys, lift = (key, lambda f: f) if runs == 1 else (split(key, runs), jax.vmap)
    state = lift(init)(keys)
    spent = 0 if free else len(known_x)
    kept = rows if keeps_points(problem) else 0
    best = jnp.full(runs, jnp.min(known_values, initial=jnp.inf), float_dtype())
    return Run(
        evaluations=jnp.int32(spent),
        state=state,
        begin=jnp.int32(spent),
        values=jnp.full((rows, runs), jnp.inf, float_dtype()),
        points=jnp.zeros((kept, runs, problem.space.dimension), known_x.dtype),
        used=jnp.full(runs, spent, jnp.int32),
        since=jnp.zeros(runs, jnp.int32),
        best=best,
        running=~(best <= target),
        key=lift(evaluation_key)(keys),
    )


class _Programs(NamedTuple):
    """What is compiled for a function."""

    advance: Callable  # `_steps`, which may use the memory of the run that it is given
    advance_a_copy: Callable  # which may not: after an interrupt that run must still be there
    evaluate_known: Callable
    evaluate_again: Callable


@kept_with_loss
def _programs(fun: Callable[[], Callable]) -> Callable[[Problem, bool], _Programs]:
    @lru_cache(PROGRAMS)
    def of(problem: Problem, stops: bool) -> _Programs:
        def advance(*inputs):
            return _steps(problem._replace(fun=fun()), stops, *inputs)

        def evaluate_known(*inputs):
            return _evaluate_known(problem._replace(fun=fun()), *inputs)

        def evaluate_again(*inputs):
            return _evaluate_again(problem._replace(fun=fun()), *inputs)

        return _Programs(
            jax.jit(advance, donate_argnums=0),
            jax.jit(advance),
            jax.jit(evaluate_known),
            jax.jit(evaluate_again, static_argnums=0),
        )

    return of


def _steps(problem: Problem, stops: bool, run: Run, until, args, target, patience) -> Run:
    """Continues until so many evaluations of each run, or until all runs have stopped."""

    def more(run: Run):
        return (run.evaluations < until) & jnp.any(run.running)

    def step(run: Run):
        x, told, state = _ask_and_tell(problem, run, args)
        if stops and problem.runs > 1:
            state = jax.tree.map(partial(_where_running, run.running), state, run.state)
        run = _record(problem.budget, run, state, x, told)
        if not stops:
            return run
        return run._replace(running=run.running & ~(run.best <= target) & ~(run.since >= patience))

    return lax.while_loop(more, step, run)


def _ask_and_tell(problem: Problem, run: Run, args):
    """One batch of each run: points (runs, batch, d), values (runs, batch), the next state."""
    space, algorithm, runs = problem.space, problem.algorithm, problem.runs
    batch = algorithm.batch_size
    lift = (lambda f: f) if runs == 1 else jax.vmap
    x, state = lift(partial(algorithm.ask, space))(run.state)
    numbers = run.evaluations + jnp.arange(batch, dtype=jnp.int32)
    keys = None
    if problem.with_key:
        keys = lift(partial(_keys, numbers))(run.key).reshape(-1)
    values = _evaluate(problem, x.reshape(runs * batch, -1), args, keys).reshape(runs, batch)
    # Of the last batch only what the budget allows is told, and counted.
    allowed = (numbers < problem.budget)[None]
    told = jnp.where(allowed & jnp.isfinite(values), values, jnp.inf)
    state = lift(partial(algorithm.tell, space))(state, x, told if runs > 1 else told[0])
    return x.reshape(runs, batch, -1), told, state


def _keys(numbers, key):
    """A key for each evaluation, from its number in its run, as on the host."""
    return jax.vmap(partial(jax.random.fold_in, key))(numbers)


def _evaluate(problem: Problem, x, args, keys):
    """Values (n,) of encoded points (n, d), with keys (n,) for functions that want them, else None."""

    def objective(x, key):
        extra = {"key": key} if problem.with_key else {}
        value = problem.fun(problem.space.decode(x), *args, **extra)
        return problem.sign * _scalar(value)

    if not problem.with_key and len(x) == 1:
        return objective(x[0], None)[None]
    with unbatchable(
        "zojax evaluates several points at once: pass jit=False, which calls fun for one at a time."
    ):
        return jax.vmap(objective)(x, keys)


def _scalar(returned) -> jax.Array:
    """What `fun` returned, a number, as the algorithms take it."""
    if not hasattr(returned, "dtype") and not isinstance(returned, (bool, int, float)):
        raise TypeError(f"fun must return a number, got {returned!r}.")
    if jnp.iscomplexobj(returned) or jnp.size(returned) != 1:
        got = f"{jnp.result_type(returned)} of shape {jnp.shape(returned)}"
        raise TypeError(f"fun must return a real scalar, got {got}.")
    return jnp.asarray(returned, float_dtype()).reshape(())


def type_of_values(problem: Problem, args) -> np.dtype:
    """What a function without keys returns when it is compiled."""
    x = jax.ShapeDtypeStruct((problem.space.dimension,), float_dtype())
    return jax.eval_shape(lambda x: problem.fun(problem.space.decode(x), *args), x).dtype


def _evaluate_known(problem: Problem, x, args, key):
    keys = None
    if problem.with_key:
        keys = _keys(jnp.arange(len(x)), evaluation_key(key))
    values = _evaluate(problem, x, args, keys)
    return jnp.where(jnp.isfinite(values), values, jnp.inf)


def _evaluate_again(problem: Problem, batches: int, x, used, first, args, key):
    """Values (runs, batches * batch_size) of a point of each run, x (runs, d), batch after batch.

    `used` (runs,) evaluations and `first` batches of them come before.
    """
    runs, batch = problem.runs, problem.algorithm.batch_size
    rows = jnp.repeat(x, batch, axis=0)

    def more(carry):
        return carry[0] < batches

    def step(carry):  # the key is carried: a scan would use it in every step
        i, key, values = carry
        keys = None
        if problem.with_key:
            later = (first + i) * batch + jnp.arange(batch, dtype=jnp.int32)
            keys = jax.vmap(_keys)(used[:, None] + later[None], key.reshape(runs)).reshape(-1)
        new = _evaluate(problem, rows, args, keys).reshape(runs, batch)
        return i + 1, key, lax.dynamic_update_index_in_dim(values, new, i, 0)

    values = jnp.zeros((batches, runs, batch), float_dtype())
    values = lax.while_loop(more, step, (jnp.int32(0), key, values))[2]
    values = jnp.moveaxis(values, 0, 1).reshape(runs, -1)
    return jnp.where(jnp.isfinite(values), values, jnp.inf)


def _record(budget: int, run: Run, state, x, told) -> Run:
    """Enters a batch into the histories, which have room for what goes beyond the budget."""
    told = jnp.where(run.running[:, None], told, jnp.inf)
    lowest = jnp.min(told, axis=1)
    done = jnp.minimum(run.evaluations + told.shape[1], budget)
    row = run.evaluations - run.begin
    points = run.points
    if len(points):
        points = lax.dynamic_update_slice_in_dim(points, jnp.swapaxes(x, 0, 1), row, 0)
    return run._replace(
        evaluations=done,
        state=state,
        values=lax.dynamic_update_slice_in_dim(run.values, told.T, row, 0),
        points=points,
        used=jnp.where(run.running, done, run.used),
        since=jnp.where(lowest < run.best, 0, run.since + done - run.evaluations),
        best=jnp.minimum(lowest, run.best),
    )


def _where_running(running, new, old):
    return jnp.where(running.reshape(running.shape + (1,) * (new.ndim - 1)), new, old)


def _recommendations(problem: Problem, state) -> tuple[np.ndarray, np.ndarray]:
    """The algorithm's choice in each run: points (runs, d), values (runs,)."""
    x, value = _best(problem.algorithm.best, problem.runs)(state)
    return np.asarray(x).reshape(problem.runs, -1), np.asarray(value, float).reshape(problem.runs)


@lru_cache(PROGRAMS)
def _best(best: Callable, runs: int) -> Callable:
    # A function of its own: programs of `best` itself JAX would keep as long as the algorithm.
    return jax.jit(partial(best) if runs == 1 else jax.vmap(best))
