"""A whole search as one compiled loop, with several runs side by side."""

import time
from collections.abc import Callable

import jax
import numpy as np

from zojax._numerics import float_dtype
from zojax.search._random import split
from zojax.search.engine import compiled
from zojax.search.engine.compiled import Carry, DevicePrograms
from zojax.search.engine.outcome import (
    Outcome,
    leading,
    mean_and_error,
    one_after_another,
    stopped_by,
)
from zojax.search.engine.task import SearchTask, keeps_points, no_function

REPORTS = 100  # per run
LONGEST = 2**20  # evaluations of a call with reports
FIRST = 16  # evaluations of the first call under a clock
MOMENT = 0.1  # seconds; under a clock, shorter calls grow


def on_device(task: SearchTask) -> Outcome:
    """Runs the task with its function inside the program."""
    problem = task.problem
    if problem.runs > 1 and not problem.algorithm.runs_together:
        alone = task._replace(problem=problem._replace(runs=1))
        keys = enumerate(split(task.key, problem.runs))
        return one_after_another(lambda one: on_device(_run_of(alone, *one)), keys)
    stops = task.target is not None or task.patience is not None
    programs = compiled.programs_of(problem.fun)(problem._replace(fun=no_function), stops)
    outcome, carry = _search(programs, task)
    if outcome.stopped or not task.reserve:
        return outcome
    try:
        outcome = _look_again(programs.evaluate_again, task, carry, outcome)
    except KeyboardInterrupt as error:
        return stopped_by(error, outcome)
    return _last_report(task, outcome)


def _run_of(task: SearchTask, number: int, key: jax.Array) -> SearchTask:
    """The task of one run, with its part of an earlier search."""
    state = task.state
    if state is not None:
        own = jax.tree.map(lambda leaf: leaf[number], (state.algorithm, state.x, state.values))
        state = state._replace(algorithm=own[0], x=own[1][None], values=own[2][None])
    return task._replace(key=key, state=state)


def _search(programs: DevicePrograms, task: SearchTask) -> tuple[Outcome, Carry]:
    """All but the last evaluations of the recommended point: (outcome, carry)."""
    problem, budget = task.problem, task.problem.budget
    known_x, values = _known(programs, task)
    free = task.starts.values is not None  # given values cost no evaluations
    target = np.asarray(-np.inf if task.target is None else task.target, float_dtype())
    patience = np.int32(min(budget + 1, task.patience or budget + 1))
    inputs = task.args, target, patience

    def start(length):
        begin = compiled.starting(problem._replace(fun=no_function), free, length)
        earlier = None
        if task.state is not None:
            earlier = task.state.algorithm, np.asarray(task.state.values, float_dtype())
        return begin(task.key, known_x, values, target, earlier)

    why, ended_by = None, None
    if task.report is None:
        carry = programs.advance(start(budget), np.int32(budget), *inputs)
        parts = [_history(carry)]
    else:
        carry, parts, why, ended_by = _in_parts(
            programs.advance_a_copy, start, inputs, task, task.report
        )
    if not free and len(known_x):  # the given points of all runs, in the form of a history
        shape = len(known_x), problem.runs, *problem.value_shape
        rows = known_x[: len(known_x) if keeps_points(problem, budget) else 0, None]
        points = np.broadcast_to(rows, (len(rows), problem.runs, problem.space.dimension))
        parts = [(np.broadcast_to(values[:, None], shape), points), *parts]
    outcome = _outcome(task, carry, parts, why)
    return (outcome if ended_by is None else stopped_by(ended_by, outcome)), carry


def _known(programs: DevicePrograms, task: SearchTask) -> tuple[np.ndarray, np.ndarray]:
    """The given points and their values, evaluated if necessary."""
    # NumPy, because every JAX operation outside the programs would be a program of its own to load.
    x = np.asarray(task.starts.x, float_dtype())
    if task.starts.values is not None:
        return x, np.asarray(task.starts.values, float_dtype())
    if not len(x):
        return x, np.zeros((0, *task.problem.value_shape), float_dtype())
    x = np.repeat(x, task.problem.algorithm.samples, axis=0)
    return x, np.asarray(programs.evaluate_known(x, task.args, task.key), float_dtype())


def _in_parts(
    advance: Callable, start: Callable, inputs: tuple, task: SearchTask, report: Callable
) -> tuple[Carry, list, str | None, BaseException | None]:
    """(carry, histories, why, exception): about 100 calls with a report after each.

    An interrupt, or an exception of the report, ends the run between two calls. Under a clock, the first
    call is short, and calls grow while they take less than a moment.
    """
    problem, budget = task.problem, task.problem.budget
    batch, longest = problem.algorithm.batch_size, min(max(1, budget // REPORTS), LONGEST)
    timed = task.clock is not None
    step = max(batch, min(longest, FIRST) if timed else longest)
    carry = start(max(batch, longest))
    parts: dict[int, tuple] = {}  # histories by the evaluations at their end
    until, why, ended_by = 0, None, None
    try:
        while until < budget and why is None and np.asarray(carry.running).any():
            until = min(budget, max(until + step, int(carry.evaluations) + 1))
            began = time.monotonic()
            carry = jax.block_until_ready(advance(carry, np.int32(until), *inputs))
            seconds = time.monotonic() - began
            # Copies: a view would keep all rows.
            parts[until] = tuple(np.copy(h) for h in _history(carry))
            carry = carry._replace(begin=carry.evaluations)
            x, value = compiled.recommendations(problem, carry.state)
            why = report(int(carry.evaluations), *leading(x, value))
            if timed and len(parts) > 1:  # the first call may include compilation
                step = max(batch, min(longest, 2 * step) if seconds < MOMENT else step // 2)
    except BaseException as error:
        if not int(carry.evaluations):
            raise
        ended_by = error
        parts[until] = parts.get(until) or _history(carry)  # the last call may be complete
    return carry, list(parts.values()) or [_history(carry)], why, ended_by


def _history(carry: Carry) -> tuple[np.ndarray, np.ndarray]:
    """Values and points since `begin`."""
    count = int(carry.evaluations) - int(carry.begin)
    return np.asarray(carry.values)[:count], np.asarray(carry.points)[:count]


def _outcome(task: SearchTask, carry: Carry, parts: list, stop: str | None) -> Outcome:
    """The outcome of all runs, from their histories. `stop` is why they were stopped, if they were."""
    x, value = compiled.recommendations(task.problem, carry.state)
    used, best = np.asarray(carry.used), np.asarray(carry.best)
    history, points = (p[0] if len(p) == 1 else np.concatenate(p) for p in zip(*parts, strict=True))
    kept = keeps_points(task.problem, task.problem.budget)
    message = stop or "budget spent"
    if stop is None and task.target is not None and np.any(best <= task.target):
        message = "target reached"
    elif stop is None and np.any(used < task.problem.budget):
        message = f"no improvement for {task.patience} evaluations"
    return Outcome(
        x=x,
        value=value,
        value_error=np.full(len(value), np.nan) if task.problem.is_noisy else None,
        values=[history[:n, r].astype(np.float64) for r, n in enumerate(used)],
        points=[points[:n, r] for r, n in enumerate(used)] if kept else None,
        state=carry.state,
        message=message,
        stopped=stop is not None,
    )


def _look_again(evaluate: Callable, task: SearchTask, carry: Carry, outcome: Outcome) -> Outcome:
    """The outcome with `reserve` more evaluations of each run's recommended point, and their means."""
    x, used = outcome.x.astype(float_dtype()), np.asarray(carry.used)
    batches = -(-task.reserve // task.problem.algorithm.batch_size)
    several = batches if task.clock is None else 1  # per call; a clock is checked in between
    calls = []
    for first in range(0, batches, several):
        calls.append(np.asarray(evaluate(several, x, used, np.int32(first), task.args, carry.key)))
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


def _last_report(task: SearchTask, outcome: Outcome) -> Outcome:
    """The outcome, after a report of the mean value of the recommended point."""
    if task.report is None:
        return outcome
    i = int(np.argmin(outcome.value))
    try:
        why = task.report(len(outcome.values[i]), outcome.x[i], float(outcome.value[i]))
    except BaseException as error:
        return stopped_by(error, outcome)
    return outcome if why is None else outcome._replace(message=why, stopped=True)
