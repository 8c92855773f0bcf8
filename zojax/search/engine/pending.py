"""Evaluations in flight: in an executor, or deferred until their results are needed."""

import time
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Executor, Future
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any

import numpy as np

from zojax.search.engine.task import Clock

MOMENT = 1.0  # seconds between two checks of an executor while waiting
GRACE = 5.0  # seconds for running evaluations after their executor was lost


class Pending:
    """Futures and their points.

    Waiting ends with the `clock`, or when the executor is lost: it breaks, is shut down, or cancels an
    evaluation. Evaluations that run at that time have `GRACE` seconds to end. While it waits for one
    evaluation, `arrived(future)` is called for others that end.
    """

    def __init__(
        self, executor: Executor | None, clock: Clock | None, arrived: Callable[[Any], None]
    ):
        self.executor, self.clock, self.arrived = executor, clock, arrived
        self.points: dict[Any, np.ndarray] = {}
        self.done: SimpleQueue = SimpleQueue()  # futures, as they end
        self.lost: str | None = None  # why the executor takes no more evaluations
        self.error: RuntimeError | None = None  # that lost it
        self.end = np.inf if clock is None else clock.end

    def __len__(self) -> int:
        return len(self.points)

    def __contains__(self, future) -> bool:
        return future in self.points

    def add_known(self, x: np.ndarray) -> Future:
        """A future that is done, for an evaluation that a journal has."""
        future: Future = Future()
        future.set_result(None)
        self.points[future] = x
        return future

    def submit(self, x: np.ndarray, call: partial):
        """The future of a call, or None if the executor refuses it."""
        if self.executor is None:
            later = _Later(call)
            self.points[later] = x
            return later
        try:
            future = self.executor.submit(call.func, *call.args, **call.keywords)
        except RuntimeError as error:  # the sign of a pool that was shut down
            self._lose(error)
            return None
        self.points[future] = x
        future.add_done_callback(self.done.put)
        return future

    def raise_refusal(self) -> None:
        """Raises the executor's first exception, unless the executor is shut down or broken."""
        known = isinstance(self.error, BrokenExecutor) or is_shut_down(self.executor)
        if self.error is not None and not known:
            self.error.add_note("executor took no evaluation.")
            raise self.error

    def wait_for(self, future) -> bool:
        """Waits for this evaluation. Returns whether it ended with a value or an exception."""
        while self.executor is not None and future in self.points and not future.done():
            if not self._goes_on():
                break
            try:
                done = self.done.get(timeout=self._seconds())
            except Empty:
                continue
            if self._has_value(done):
                self.arrived(done)
        return self._has_value(future)

    def next_done(self, wait: bool):
        """A finished evaluation, with a value or an exception; None if waiting ends before."""
        while self.points:
            waits = wait and self._goes_on()
            try:
                future = self.done.get(timeout=self._seconds() if waits else 0.0)
            except Empty:
                if not waits:
                    return None
                continue
            if self._has_value(future):
                return future
        return None

    def pop(self, future) -> np.ndarray:
        """Removes an evaluation and returns its point."""
        return self.points.pop(future)

    def drop(self, future, running: bool) -> None:
        """Removes an evaluation that has not begun, or, with `running`, one that has not ended."""
        if future.cancel() or (running and not future.done()):
            self.points.pop(future, None)

    def cancel(self) -> None:
        """Removes all evaluations that have not begun."""
        for future in list(self.points):
            self.drop(future, running=False)

    def _goes_on(self) -> bool:
        if self.lost is None and is_shut_down(self.executor):
            self._lose()
        return time.monotonic() < self.end

    def _seconds(self) -> float:
        return max(0.0, min(MOMENT, self.end - time.monotonic()))

    def _has_value(self, future) -> bool:
        """Whether an evaluation ended with a value or an exception. A cancelled one counts as lost."""
        if future not in self.points or self.executor is None:
            return future in self.points
        if future.cancelled():
            self._lose()
        elif future.done() and isinstance(future.exception(), BrokenExecutor):
            self.points.pop(future)
            self._lose(future.exception())
        return future in self.points and future.done()

    def _lose(self, error: RuntimeError | None = None) -> None:
        """Notes why the executor is lost, the first time, and removes evaluations that have not begun."""
        if self.lost is None:
            self.end = min(self.end, time.monotonic() + GRACE)
            self.error = error
            if isinstance(error, BrokenExecutor):
                self.lost = f"executor broke: {error}"
            elif error is not None or is_shut_down(self.executor):
                self.lost = f"executor was shut down{'' if error is None else f': {error}'}"
            else:
                self.lost = "executor cancelled an evaluation"
        self.cancel()


class _Later:
    """A future without an executor: `result()` evaluates it."""

    def __init__(self, result: Callable[[], Any]):
        self.result = result

    def cancel(self) -> bool:
        return True


def is_shut_down(executor: Executor | None) -> bool:
    """Whether a pool of the standard library is shut down. Other executors refuse work instead."""
    return any(getattr(executor, name, None) is True for name in ("_shutdown", "_shutdown_thread"))
