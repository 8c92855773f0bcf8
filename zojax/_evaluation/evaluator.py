"""Evaluations in flight: handed to workers, repeated after failures, ended when they take too long."""

import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from pickle import PicklingError
from queue import Empty, SimpleQueue
from typing import Any

from zojax._evaluation.call import Call
from zojax._evaluation.limits import late, time_limit
from zojax._evaluation.workers import (
    WorkerDied,
    is_shut_down,
    require_future,
    require_sendable,
    unsendable,
    workers_of,
)

MOMENT = 1.0  # seconds between two checks of an executor while waiting
ALARM = 5.0  # seconds for a worker to end its own late call
GRACE = 5.0  # seconds for running calls after their executor was lost
START = 20.0  # seconds for a new worker to start, unless the executor has `start_seconds`


class Task:
    """An evaluation: it waits, is in flight, or has ended.

    Attributes:
      about: how its owner knows it.
      attempts: calls that failed.
      returned, error: of the last call, once it has ended.
    """

    def __init__(self, about: Any, call: Callable, args: tuple, kwargs: dict[str, Any]):
        self.about, self.call, self.args, self.kwargs = about, call, args, kwargs
        self.future: Future | None = None
        self.handed_over = math.nan  # by time.monotonic
        self.attempts, self.ended = 0, False
        self.returned: Any = None
        self.error: BaseException | None = None

    def result(self) -> Any:
        """What the call returned. Raises its exception."""
        if self.error is not None:
            raise self.error
        return self.returned


class Evaluator:
    """Evaluations on an executor or, without one, in this thread.

    Tasks wait here until a worker is free: a call that is handed over begins at once. Only the
    `extra_calls` of an executor wait there. A call that raises or takes more than `timeout` seconds is
    made again, at most `retries` times. Then the task ends with the exception. Exceptions of the types
    `final` are not retried. A late call is cancelled; one that goes on keeps its worker.

    Waiting ends at `end` (of `time.monotonic`), or when the executor is lost: it breaks, is shut down,
    cancels a call, or has a late call in each worker. Calls that run then have `GRACE` seconds to end.
    While one task is waited for, `arrived(task)` is called for all that end.
    """

    def __init__(
        self,
        executor: Executor | None,
        *,
        timeout: float = math.inf,
        retries: int = 0,
        final: tuple[type[BaseException], ...] = (),
        end: float = math.inf,
        arrived: Callable[[Task], None] = lambda task: None,
    ):
        self.executor: Any = _Here(timeout, end) if executor is None else executor
        self.timeout, self.retries, self.final = timeout, retries, final
        self.end, self.arrived = end, arrived
        is_threads = isinstance(executor, ThreadPoolExecutor)
        self.patience = 0.0 if is_threads else ALARM  # threads have none
        self.slack: float = getattr(executor, "start_seconds", 0.0 if is_threads else START)
        self.workers = workers_of(self.executor) or math.inf
        self.most = self.workers + getattr(executor, "extra_calls", 0)
        self.tasks: dict[Task, None] = {}  # in the order of their submission
        self.waiting: dict[Task, None] = {}
        self.flying: dict[Future, Task] = {}
        self.stuck: set[Future] = set()  # late calls that go on
        self.done: SimpleQueue[Future] = SimpleQueue()  # futures, as they end
        self.news: deque[Task] = deque()  # tasks that ended
        self.lost: str | None = None  # why the executor takes no more calls
        self.error: BaseException | None = None  # that lost it
        self.began = False

    def __enter__(self) -> "Evaluator":
        return self

    def __exit__(self, *_: Any) -> None:
        self.cancel()

    def __len__(self) -> int:
        return len(self.tasks)

    def __contains__(self, task: Task) -> bool:
        return task in self.tasks

    @property
    def losses(self) -> tuple[type[Exception], ...]:
        """The exceptions of calls that were late, or whose worker died."""
        return (WorkerDied, TimeoutError) if math.isfinite(self.timeout) else (WorkerDied,)

    def call(self, fun: Callable, args: tuple = ()) -> Call:
        """The call of a function, for all its points. Raises TypeError if it cannot be sent."""
        here = isinstance(self.executor, _Here)
        call = Call(fun, args, math.inf if here else self.timeout)
        require_sendable(self.executor, call)
        return call

    def submit(self, about: Any, call: Callable, /, *args: Any, **kwargs: Any) -> Task:
        """A task, which waits for a worker."""
        task = Task(about, call, args, kwargs)
        self.tasks[task] = None
        self.waiting[task] = None
        return task

    def add_known(self, about: Any) -> Task:
        """A task that has ended elsewhere."""
        task = Task(about, Call, (), {})
        task.ended = True
        self.tasks[task] = None
        return task

    def in_order(self, call: Callable, points: Iterable[Any]) -> Iterator[Task]:
        """The tasks of points in their order, as they end.

        Raises:
          RuntimeError: the executor is lost.
        """
        for task in [self.submit(None, call, point) for point in points]:
            if not self.wait_for(task):
                raise self.error or RuntimeError(self.lost)
            self.pop(task)
            yield task

    def wait_for(self, task: Task) -> bool:
        """Waits for this task. Returns whether it ended."""
        while task in self.tasks and not task.ended:
            ended = self.next_done(wait=True)
            if ended is None:
                break
            self.arrived(ended)
        return task in self.tasks and task.ended

    def next_done(self, wait: bool) -> Task | None:
        """A task that ended, each one once; None if waiting ends before."""
        while not self.news and (self.waiting or self.flying):
            waits = wait and self._goes_on()
            if waits:
                self._hand_over()
            seconds = self._seconds() if waits and self.done.empty() else 0.0
            try:
                future = self.done.get(timeout=seconds)
            except Empty:
                if not waits:
                    return None
            else:
                self._settle(future)
            self._end_late()
        if wait and not isinstance(self.executor, _Here) and self._goes_on():
            self._hand_over()  # workers go on while the owner takes the result
        return self.news.popleft() if self.news else None

    def pop(self, task: Task) -> Any:
        """Removes a task and returns what it is about."""
        del self.tasks[task]
        return task.about

    def drop(self, task: Task, running: bool) -> None:
        """Removes a task unless its call cannot be cancelled; with `running`, unless it has ended."""
        if task.ended:
            return
        if task.future is None:
            self.waiting.pop(task, None)
        elif task.future.cancel() or running:
            self.flying.pop(task.future, None)
        else:
            return
        self.tasks.pop(task, None)

    def cancel(self) -> None:
        """Removes all tasks whose calls have not begun, and ends calls if the executor can."""
        for task in reversed(list(self.tasks)):  # so that no free worker takes a waiting one
            self.drop(task, running=False)

    def _goes_on(self) -> bool:
        if self.lost is None and is_shut_down(self.executor):
            self._lose()
        return time.monotonic() < self.end or (not self.began and isinstance(self.executor, _Here))

    def _seconds(self) -> float:
        ends = map(self._deadline, self.flying.items()) if math.isfinite(self.timeout) else ()
        return max(0.0, min(MOMENT, min((self.end, *ends)) - time.monotonic()))

    def _deadline(self, flying: tuple[Future, Task]) -> float:
        """When a call is late; inf while it waits in the executor."""
        future, task = flying
        began = getattr(future, "began", task.handed_over + self.slack)  # of `executors.restarted`
        return math.inf if began is None else began + self.timeout + self.patience

    def _hand_over(self) -> None:
        while self.waiting and self.lost is None and len(self.flying) + len(self.stuck) < self.most:
            task = next(iter(self.waiting))
            del self.waiting[task]
            try:
                future = self.executor.submit(task.call, *task.args, **task.kwargs)
            except RuntimeError as error:  # the sign of a pool that was shut down
                self.tasks.pop(task)
                known = isinstance(error, BrokenExecutor) or is_shut_down(self.executor)
                if not self.began and not known:
                    error.add_note("executor took no evaluation.")
                    raise
                return self._lose(error)
            task.future, self.began = require_future(future), True
            task.handed_over = time.monotonic()
            self.flying[future] = task
            future.add_done_callback(self.done.put)

    def _settle(self, future: Future) -> None:
        """Notes the end of a call."""
        self.stuck.discard(future)
        task = self.flying.pop(future, None)
        if task is None:  # dropped, or late
            return
        if future.cancelled():
            del self.tasks[task]
            return self._lose()
        task.error = error = future.exception()
        if isinstance(error, BrokenExecutor):
            del self.tasks[task]
            self._lose(error)
        elif isinstance(error, PicklingError) and not task.attempts:
            raise unsendable(error) from error
        elif isinstance(error, TimeoutError) and time.monotonic() >= self.end:
            del self.tasks[task]  # the time of all evaluations is over
        elif error is not None:
            self._fail(task, error)
        else:
            task.returned = future.result()
            self._finish(task)

    def _fail(self, task: Task, error: BaseException) -> None:
        """Makes a call again, or ends its task."""
        task.error, task.future = error, None
        task.attempts += 1
        if task.attempts > self.retries or isinstance(error, self.final) or self.lost:
            self._finish(task)
        else:
            self.waiting = {task: None} | self.waiting

    def _finish(self, task: Task) -> None:
        task.ended = True
        self.news.append(task)

    def _end_late(self) -> None:
        """Cancels calls that did not end by themselves."""
        if not math.isfinite(self.timeout):
            return
        now = time.monotonic()
        for future, task in [
            flying for flying in self.flying.items() if self._deadline(flying) < now
        ]:
            del self.flying[future]
            if not future.cancel():
                self.stuck.add(future)
            self._fail(task, TimeoutError(late(self.timeout)))
        if self.lost is None and len(self.stuck) >= self.workers:
            self._lose(RuntimeError("each worker has a late call: pass executors.restarted(...)"))

    def _lose(self, error: BaseException | None = None) -> None:
        """Notes why the executor is lost, the first time, and removes evaluations that have not begun."""
        if self.lost is None:
            self.end = min(self.end, time.monotonic() + GRACE)
            self.error = error
            why = "" if error is None else f": {error}"
            if isinstance(error, BrokenExecutor):
                self.lost = f"executor broke{why}"
            elif is_shut_down(self.executor):
                self.lost = f"executor was shut down{why}"
            elif error is not None:
                self.lost = f"executor took no more evaluations{why}"
            else:
                self.lost = "executor cancelled an evaluation"
        self.cancel()


class _Here:
    """An executor that calls in this thread. Interrupts pass, and calls end by `end`.

    The first call has a moment in any case, so that there is a result.
    """

    num_workers = 1

    def __init__(self, timeout: float, end: float):
        self.timeout, self.end, self.least = timeout, end, MOMENT

    def submit(self, call: Callable, /, *args: Any, **kwargs: Any) -> "_Ended":
        left, self.least = max(self.least, self.end - time.monotonic()), 0.0
        try:
            with time_limit(min(self.timeout, left)):
                return _Ended(call(*args, **kwargs), None)
        except Exception as error:
            return _Ended(None, error)


@dataclass(frozen=True, eq=False)
class _Ended:
    """A future that has ended. One of the standard library takes more time than a small evaluation."""

    returned: Any
    error: Exception | None

    def cancel(self) -> bool:
        return False

    def cancelled(self) -> bool:
        return False

    def exception(self) -> Exception | None:
        return self.error

    def result(self) -> Any:
        return self.returned

    def add_done_callback(self, call: Callable) -> None:
        call(self)
