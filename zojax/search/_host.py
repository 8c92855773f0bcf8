"""A search on the host: ask, call, tell; several calls at once with an executor."""

import warnings
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from zojax.search._algorithm import float_dtype
from zojax.search._task import Outcome, Problem, Task


def on_host(task: Task, executor: Executor | None) -> Outcome:
    """Runs the task, one run after the other."""
    problem = task.problem
    keys = [task.key] if problem.runs == 1 else jax.random.split(task.key, problem.runs)
    asynchronous = executor is not None and problem.algorithm.in_flight > 1
    loop = _as_completed if asynchronous else _in_batches
    programs = _compile(problem)
    logs, states, messages = [], [], []
    for key in keys:
        log = _Log(task, key, executor)
        state = _begin(problem, programs, log)
        state, message = loop(programs, state, log) if log.why is None else (state, log.why)
        logs, states, messages = [*logs, log], [*states, state], [*messages, message]
    recommended = [problem.algorithm.best(state) for state in states]
    return Outcome(
        x=np.stack([np.asarray(x) for x, _ in recommended]),
        value=np.array([float(value) for _, value in recommended]),
        values=[np.asarray(log.values, np.float64) for log in logs],
        points=[np.reshape(log.points, (len(log.values), -1)) for log in logs],
        state=states[0] if len(states) == 1 else jax.tree.map(lambda *x: jnp.stack(x), *states),
        message=messages[int(np.argmin([float(value) for _, value in recommended]))],
    )


class _Log:
    """Calls the function and remembers what came out: the one mutable thing in the package."""

    def __init__(self, task: Task, key: jax.Array, executor: Executor | None):
        self.task, self.executor = task, executor
        self.init_key, self.key = jax.random.split(key)  # as on the device
        self.values: list[float] = []
        self.points: list[np.ndarray] = []
        self.started, self.best, self.since = 0, np.inf, 0
        self.best_x = None
        self.warned = False
        self.why: str | None = None

    @property
    def left(self) -> int:
        return self.task.problem.budget - self.started

    def submit(self, x: np.ndarray) -> Future:
        """Starts an evaluation, or, without an executor, does it."""
        problem = self.task.problem
        extra = {}
        if problem.with_key:
            extra["key"] = jax.random.fold_in(self.key, self.started)
        self.started += 1
        point = problem.space.point(x)
        if self.executor is not None:
            return self.executor.submit(problem.fun, point, *self.task.args, **extra)
        future: Future = Future()
        try:
            future.set_result(problem.fun(point, *self.task.args, **extra))
        except Exception as error:
            future.set_exception(error)
        return future

    def enter(self, x: np.ndarray, future: Future) -> float:
        """The value of an evaluation that is done, inf if it failed; checks whether to stop."""
        try:
            value = self.task.problem.sign * float(future.result())
        except Exception as error:
            value = np.inf
            if not self.warned:
                warnings.warn(f"an evaluation failed and counts as inf: {error!r}", stacklevel=2)
            self.warned = True
        value = value if np.isfinite(value) else np.inf
        self.since = 0 if value < self.best else self.since + 1
        if value < self.best or self.best_x is None:
            self.best, self.best_x = value, x
        self.values.append(value)
        self.points.append(np.asarray(x))
        self.why = self.why or self._why_stop()
        return value

    def _why_stop(self) -> str | None:
        task = self.task
        if task.target is not None and self.best <= task.target:
            return "target reached"
        if task.patience is not None and self.since >= task.patience:
            return f"no improvement for {task.patience} evaluations"
        if task.report is not None:
            return task.report(len(self.values), self.best_x, self.best)
        return None


def _compile(problem: Problem):
    """(ask, tell, inject) as compiled programs."""
    algorithm, space = problem.algorithm, problem.space
    return tuple(
        jax.jit(partial(step, space)) for step in (algorithm.ask, algorithm.tell, algorithm.inject)
    )


def _begin(problem: Problem, programs, log: _Log) -> Any:
    """The first state, which knows the points that were given."""
    task = log.task
    state = problem.algorithm.init(log.init_key, problem.space, problem.budget)
    for i, x in enumerate(task.known_x):
        if task.known_values is not None:
            value = task.known_values[i]
            log.best, log.best_x = min((log.best, log.best_x), (value, x), key=lambda pair: pair[0])
        else:
            value = log.enter(x, log.submit(x))
        state = programs[2](state, jnp.asarray(x, float_dtype()), jnp.asarray(value, float_dtype()))
    return state


def _in_batches(programs, state, log: _Log):
    """Ask, evaluate the batch (at once where there is an executor), tell."""
    ask, tell, _ = programs
    while log.why is None:
        if not log.left:
            return state, "budget spent"
        x, state = ask(state)
        rows = np.asarray(x)
        allowed = rows[: log.left]
        try:
            futures = [log.submit(row) for row in allowed]
            values = [log.enter(*done) for done in zip(allowed, futures, strict=True)]
        except KeyboardInterrupt:
            return state, "interrupted"
        values += [np.inf] * (len(rows) - len(values))
        state = tell(state, x, jnp.asarray(values, float_dtype()))
    return state, log.why


def _as_completed(programs, state, log: _Log):
    """Keeps as many evaluations running as the algorithm allows; each tells when it is done."""
    ask, tell, _ = programs
    pending: dict[Future, jax.Array] = {}
    in_flight = log.task.problem.algorithm.in_flight
    try:
        while log.why is None:
            while len(pending) < in_flight and log.left:
                x, state = ask(state)
                pending[log.submit(np.asarray(x[0]))] = x
            if not pending:
                return state, "budget spent"
            for future in wait(pending, return_when=FIRST_COMPLETED).done:
                x = pending.pop(future)
                value = log.enter(np.asarray(x[0]), future)
                state = tell(state, x, jnp.asarray([value], float_dtype()))
    except KeyboardInterrupt:
        return state, "interrupted"
    finally:
        for future in pending:
            future.cancel()
    return state, log.why
