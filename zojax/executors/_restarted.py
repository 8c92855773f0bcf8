"""Pools that are made again when a worker dies or hangs."""

import os
import signal
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import BrokenExecutor, Executor, Future
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from threading import Thread
from typing import Any

from zojax._evaluation import WorkerDied, workers_of


def restarted(
    factory: Callable[[], Executor],
    count: int = 1,
    *,
    retries: int = 3,
    kill: Callable[[Any], Any] | None = None,
) -> "Restarted":
    """An executor of `count` pools, each of which is made again when it breaks.

    A worker that dies (killed, out of memory, a crash in C) breaks its pool. The calls of a broken pool are
    made again, in a new pool, one at a time: a call that kills its worker harms no other. After `retries`
    more deaths, it raises `WorkerDied`. Cancelling a call that runs kills its pool, and the pool's other
    calls are made again.

    Pools of one worker keep calls apart: with `restarted(lambda: ProcessPoolExecutor(1), 8)`, a death
    concerns one call only.

    Args:
      factory: () -> a new pool: `ProcessPoolExecutor(8)`, loky's `get_reusable_executor(8)`, ...
      count: pools.
      retries: how often a call is made again after it was alone in a pool that broke.
      kill: pool -> None, ends all calls of a pool at once. By default kills its processes, if it has any.
        For Dask pass `kill=lambda pool: client.restart()`.

    Returns:
      An `Executor`. Its `num_workers` counts the workers of all pools. Its `with` block ends when its calls
      have ended.

    Raises:
      TypeError: a factory of something else.
      ValueError: a count or retries out of range.

    >>> from concurrent.futures import ProcessPoolExecutor
    >>> from multiprocessing import get_context
    >>> def make():
    ...     return ProcessPoolExecutor(1, get_context("spawn"))
    >>> with restarted(make, 8) as pool:
    ...     pool.num_workers
    8
    """
    if not callable(factory):
        raise TypeError(
            f"factory must make a pool, got {factory!r}: pass lambda: ProcessPoolExecutor(8)."
        )
    for name, value, least in (("count", count, 1), ("retries", retries, 0)):
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise ValueError(f"{name} must be an int from {least} on, got {value!r}.")
    return Restarted(factory, count, retries, kill_processes if kill is None else kill)


class Restarted(Executor):
    """See `restarted`. One thread handles all events, one after the other, and alone uses the pools."""

    start_seconds = 20.0  # in which a worker may start

    def __init__(self, factory: Callable[[], Executor], count: int, retries: int, kill: Callable):
        self.factory, self.retries, self.kill, self._shutdown = factory, retries, kill, False
        self.slots = [_Slot(_checked(factory())) for _ in range(count)]
        self.num_workers = sum(slot.workers for slot in self.slots)
        self.waiting: deque[Call] = deque()
        self.suspects: deque[Call] = deque()  # of broken pools: each has a pool for itself
        self.events: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self.broken: BrokenExecutor | None = None
        self.thread = Thread(target=self._work, daemon=True)
        self.thread.start()

    @property
    def pools(self) -> list[Executor]:
        return [slot.pool for slot in self.slots]

    def submit(self, fun: Callable, /, *args: Any, **kwargs: Any) -> Future:
        if self.broken is not None:
            raise self.broken
        if self._shutdown:
            raise RuntimeError("cannot schedule new futures after shutdown")
        call = Call(partial(fun, *args, **kwargs), self._when(self._abandon))
        self.events.put(partial(self.waiting.append, call))
        return call

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self._shutdown = True
        self.events.put(partial(self._cancel, self.waiting) if cancel_futures else lambda: None)
        if wait:
            self.thread.join()

    def _when(self, happens: Callable, *args: Any) -> Callable[[Any], None]:
        """A callback that leaves its event to the thread."""
        return lambda of: self.events.put(partial(happens, *args, of))

    def _work(self) -> None:
        """Handles events until the last call after a shutdown has ended."""
        while not self._shutdown or self.waiting or self.suspects or self._running():
            event = self.events.get()
            try:
                event()
                if self.broken is None:
                    self._start_calls()
            except Exception as error:  # of the factory, or of kill
                self.broken = BrokenExecutor(f"a pool could not be made again: {error!r}")
            if self.broken is not None:
                self._end_all(self.broken)
        for pool in self.pools:
            pool.shutdown()

    def _end_all(self, error: BaseException) -> None:
        for call in (*self.waiting, *self.suspects, *self._running()):
            call.end(error=error)
        self.waiting.clear()
        self.suspects.clear()
        for slot in self.slots:
            slot.running.clear()

    def _running(self) -> list["Call"]:
        return [call for slot in self.slots for call in slot.running.values()]

    def _start_calls(self) -> None:
        for slot in self.slots:
            while queue := self._queue_for(slot):
                slot.is_alone, call = queue is self.suspects, queue.popleft()
                try:
                    future = slot.pool.submit(call.call.func, *call.call.args, **call.call.keywords)
                except BrokenExecutor:  # a worker died while it had no call
                    self._replace(slot, [call])
                    continue
                except Exception:
                    queue.appendleft(call)
                    raise
                slot.running[future] = call
                call.began = time.monotonic() + (0.0 if slot.is_warm else self.start_seconds)
                future.add_done_callback(self._when(self._end, slot))

    def _queue_for(self, slot: "_Slot") -> "deque[Call] | None":
        """The next calls of a pool, if it has a free worker."""
        if not slot.running and self.suspects:
            return self.suspects
        is_free = len(slot.running) < slot.workers and not (slot.running and slot.is_alone)
        return self.waiting if is_free and self.waiting else None

    def _end(self, slot: "_Slot", future: Future) -> None:
        """Passes on the end of a call, or replaces its pool."""
        call = slot.running.pop(future, None)
        if call is None:  # of an earlier pool
            return
        slot.is_warm = slot.workers == 1  # of several workers, some may start only now
        if future.cancelled():
            Future.cancel(call)
        elif isinstance(error := future.exception(), BrokenExecutor):
            self._replace(slot, [call, *slot.running.values()])
        elif error is not None:
            call.end(error=error)
        else:
            call.end(future.result())

    def _replace(self, slot: "_Slot", calls: list["Call"]) -> None:
        """Makes a broken pool again. Of several calls, nothing tells which one broke it."""
        if len(calls) == 1:
            calls[0].deaths += 1
        for call in calls:
            if call.deaths > self.retries:
                call.end(error=WorkerDied(f"the worker died in each of {call.deaths} attempts"))
            else:
                call.began = None
                self.suspects.append(call)
        self._renew(slot)

    def _abandon(self, call: "Call") -> None:
        """Ends a cancelled call, with its pool if it runs."""
        for queue in (self.waiting, self.suspects):
            if call in queue:
                queue.remove(call)
        for slot in self.slots:
            calls = list(slot.running.values())
            if call in calls:
                for other in calls:
                    other.began = None
                self.waiting.extendleft(other for other in reversed(calls) if other is not call)
                self._renew(slot)

    def _renew(self, slot: "_Slot") -> None:
        """A new pool, after the calls of the old one went to a queue."""
        slot.running.clear()
        self.kill(slot.pool)
        slot.pool, slot.is_warm = _checked(self.factory()), False

    def _cancel(self, calls: Iterable["Call"]) -> None:
        for call in list(calls):
            call.cancel()


class _Slot:
    """A pool and the calls that it runs."""

    def __init__(self, pool: Executor):
        self.pool, self.workers = pool, workers_of(pool) or 1
        self.running: dict[Future, Call] = {}
        self.is_alone = False  # whether its call tolerates no other
        self.is_warm = False  # whether its worker has started


class Call(Future):
    """A call. `cancel()` ends it even while it runs. `began`: at the latest; None while it waits."""

    def __init__(self, call: Any, cancelled: Callable[["Call"], Any]):
        super().__init__()
        self.call, self.notify, self.deaths = call, cancelled, 0
        self.began: float | None = None  # by time.monotonic

    def cancel(self) -> bool:
        was_cancelled, is_cancelled = self.cancelled(), super().cancel()
        if is_cancelled and not was_cancelled:
            self.notify(self)
        return is_cancelled

    def end(self, result: Any = None, error: BaseException | None = None) -> None:
        if not self.set_running_or_notify_cancel():
            return
        if error is None:
            self.set_result(result)
        else:
            self.set_exception(error)


def _checked(pool: Any) -> Executor:
    if not callable(getattr(pool, "submit", None)):
        raise TypeError(f"factory must return a pool of concurrent.futures, got {pool!r}.")
    return pool


def kill_processes(pool: Any) -> None:
    """Kills the processes of a pool of the standard library or of loky. Threads go on."""
    for number in list(getattr(pool, "_processes", None) or ()):
        with suppress(OSError):  # it has ended
            os.kill(number, getattr(signal, "SIGKILL", signal.SIGTERM))
    pool.shutdown(wait=False)
