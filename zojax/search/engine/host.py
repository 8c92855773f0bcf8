"""A search on the host: ask, call, tell, with several calls at once in an executor."""

from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from zojax._failures import Failures
from zojax.search._random import split
from zojax.search.engine.calls import Callee
from zojax.search.engine.host_programs import HostPrograms, State, host_programs
from zojax.search.engine.journal import RunJournal
from zojax.search.engine.log import Entry, Log
from zojax.search.engine.outcome import Outcome, leading, one_after_another, stopped_by
from zojax.search.engine.task import SearchTask

if TYPE_CHECKING:
    from zojax.search.engine.reports import Reports  # imports multiprocessing


def on_host(task: SearchTask, executor: Executor | None, callee: Callee) -> Outcome:
    """Runs the task, one run after the other."""
    failures = Failures(task.catch)

    def run(numbered: tuple[int, jax.Array]) -> Outcome:
        nonlocal failures
        number, key = numbered
        journal = None if task.journal is None else task.journal.run(number, task.problem)
        with _reports(task, journal) as reports:
            outcome, failures = _run(
                task, executor, failures, callee, reports, journal, number, key
            )
        return outcome

    if task.problem.runs == 1:
        outcome = run((0, task.key))
    else:
        outcome = one_after_another(run, enumerate(split(task.key, task.problem.runs)))
    if failures.first is not None and not outcome.stopped:  # all of a small budget failed
        return outcome._replace(raised=failures.explained())
    return outcome


def _reports(task: SearchTask, journal: RunJournal | None) -> AbstractContextManager:
    """The pruner's reports, with those of a journal; None without a pruner."""
    if task.pruner is None:
        return nullcontext()
    from zojax.search.engine.reports import Reports

    return Reports(task.pruner, task.problem, [] if journal is None else journal.reports())


def _run(
    task: SearchTask,
    executor: Executor | None,
    failures: Failures,
    callee: Callee,
    reports: "Reports | None",
    journal: RunJournal | None,
    number: int,
    key: jax.Array,
):
    """(outcome, failures) of one run, also if an exception ended it."""
    algorithm = task.problem.algorithm
    loop = _as_completed if executor is not None and algorithm.in_flight > 1 else _in_batches
    programs = host_programs(algorithm, task.problem.space, task.problem.planned, key, callee.dtype)
    state = _first_state(programs, task, number, key)
    log = Log(task, key, state, executor, failures, callee, programs.dtype, reports, journal)
    if task.state is not None:
        value = np.asarray(task.state.values[number], float)
        if task.problem.constraints:  # a feasible point, or a failure
            fits = np.zeros(task.problem.constraints) if np.isfinite(value) else np.inf
            value = np.append(value, np.broadcast_to(fits, task.problem.constraints))
        log.earlier = log.best = Entry(value[()], task.state.x[number])
    ended_by = _what_ends(log, partial(_begin, programs, log), partial(loop, programs, log))
    try:
        state, x, value = _finish(programs, log)
    except KeyboardInterrupt as error:
        ended_by = error
        state, x, value = _finish(programs, log)
    found = len(log.entries)
    if ended_by is None and not log.stopped:
        ended_by = _what_ends(log, partial(log.look_again, x))
    outcome = log.outcome(state, x, value, found)
    return outcome if ended_by is None else stopped_by(ended_by, outcome), log.failures


def _first_state(programs: HostPrograms, task: SearchTask, number: int, key: jax.Array) -> State:
    if task.state is None:
        return programs.start(key)
    state = task.state.algorithm
    several = task.problem.runs > 1
    return programs.resume(jax.tree.map(lambda v: v[number], state) if several else state)


def _what_ends(log: Log, *parts: Callable[[], None]) -> BaseException | None:
    """Calls the parts of a run. An exception is returned, or raised if there is no evaluation yet."""
    try:
        for part in parts:
            part()
    except BaseException as error:
        if not log.entries:
            raise
        return error
    finally:
        log.evaluator.cancel()
    return None


def _finish(programs: "HostPrograms", log: Log):
    """(state, x, value): the last state, after all entries, and its recommendation."""
    _inject(programs, log)
    state, x, value = programs.end(log.state)
    return state, *log.as_evaluated(np.asarray(x), np.asarray(value))


def _begin(programs: HostPrograms, log: Log) -> None:
    """Injects the given points, after evaluating them if their values are unknown."""
    points, values = log.task.starts.x, log.task.starts.values
    log.stop_at_target()  # an earlier search may have reached it
    if values is None:
        log.evaluate(np.repeat(points, log.task.problem.algorithm.samples, axis=0))
        _inject(programs, log)
        return
    if len(values):
        best = Entry(*reversed(leading(points, values)))
        if log.best.x is None or best.value < log.best.value:
            log.best = best
        log.stop_at_target()
    for x, value in zip(points, values, strict=True):
        log.state = _injected(programs, log.state, x, value)


def _inject(programs: HostPrograms, log: Log) -> None:
    """Injects all entries that were not told: given points, and the last ones before an interrupt."""
    samples, state = log.task.problem.algorithm.samples, log.state
    new = log.entries[log.told :]
    for i in range(0, len(new) - samples + 1, samples):
        same = new[i : i + samples]
        x = same[0].x
        if x is not None and all(np.array_equal(x, e.x) for e in same if e.x is not None):
            state = _injected(programs, state, x, np.mean([e.value for e in same], axis=0))
    log.tell(state)


def _injected(programs: HostPrograms, state: State, x: np.ndarray, value: Any) -> State:
    return programs.inject(state, x.astype(programs.dtype), programs.dtype.type(value))


def _in_batches(programs: HostPrograms, log: Log) -> None:
    """Ask, evaluate the batch, tell."""
    more = log.goes_on
    if more:
        x, log.state = programs.ask(log.state)
    while more:
        values = log.evaluate(np.asarray(x)).astype(programs.dtype)
        more = log.goes_on
        x, state = programs.step(log.state, x, values, more)
        log.tell(state)


def _as_completed(programs: HostPrograms, log: Log) -> None:
    """Keeps as many evaluations in flight as the algorithm allows, and tells each one at its end."""
    in_flight = log.task.problem.algorithm.in_flight
    while True:
        while len(log.evaluator) < in_flight and log.goes_on:
            x, log.state = programs.ask(log.state)
            log.submit(np.asarray(x))
        task = log.next_done()
        if task is None:
            return log.stop_in_time()
        point = task.about.x
        value = log.enter(task)
        log.tell(programs.tell(log.state, point[None], np.asarray([value], programs.dtype)))
