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


class Evaluation:
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

    Evaluations wait here until a worker is free: a call that is handed over begins at once. Only the
    `extra_calls` of an executor wait there. A call that raises or takes more than `timeout` seconds is
    made again, at most `retries` times. Then the evaluation ends with the exception. Those of the types
    `final` are not retried. A late call is cancelled; one that goes on keeps its worker.

    Waiting ends at `end` (of `time.monotonic`), or when the executor is lost: it breaks, is shut down,
    cancels a call, or has a late call in each worker. Calls that run then have `GRACE` seconds to end.
    While one evaluation is waited for, `arrived(evaluation)` is called for all that end.
    """

    def __init__(
        self,
        executor: Executor | None,
        *,
        timeout: float = math.inf,
        retries: int = 0,
        final: tuple[type[BaseException], ...] = (),
        end: float = math.inf,
        arrived: Callable[[Evaluation], None] = lambda evaluation: None,
    ):
        self.executor: Any = _Here(timeout, end) if executor is None else executor
        self.timeout, self.retries, self.final = timeout, retries, final
        self.end, self.arrived = end, arrived
        is_threads = isinstance(executor, ThreadPoolExecutor)
        self.patience = 0.0 if is_threads else ALARM  # threads have none
        self.slack: float = getattr(executor, "start_seconds", 0.0 if is_threads else START)
        self.workers = workers_of(self.executor) or math.inf
        self.most = self.workers + getattr(executor, "extra_calls", 0)
        self.evaluations: dict[Evaluation, None] = {}  # in the order of their submission
        self.waiting: dict[Evaluation, None] = {}
        self.flying: dict[Future, Evaluation] = {}
        self.stuck: set[Future] = set()  # late calls that go on
        self.done: SimpleQueue[Future] = SimpleQueue()  # futures, as they end
        self.news: deque[Evaluation] = deque()  # evaluations that ended
        self.lost: str | None = None  # why the executor takes no more calls
        self.error: BaseException | None = None  # that lost it
        self.began = False

    def __enter__(self) -> "Evaluator":
        return self

    def __exit__(self, *_: Any) -> None:
        self.cancel()

    def __len__(self) -> int:
        return len(self.evaluations)

    def __contains__(self, evaluation: Evaluation) -> bool:
        return evaluation in self.evaluations

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

    def submit(self, about: Any, call: Callable, /, *args: Any, **kwargs: Any) -> Evaluation:
        """An evaluation, which waits for a worker."""
        evaluation = Evaluation(about, call, args, kwargs)
        self.evaluations[evaluation] = None
        self.waiting[evaluation] = None
        return evaluation

    def add_known(self, about: Any) -> Evaluation:
        """An evaluation that has ended elsewhere."""
        evaluation = Evaluation(about, Call, (), {})
        evaluation.ended = True
        self.evaluations[evaluation] = None
        return evaluation

    def in_order(self, call: Callable, points: Iterable[Any]) -> Iterator[Evaluation]:
        """The evaluations of points in their order, as they end.

        Raises:
          RuntimeError: the executor is lost.
        """
        for evaluation in [self.submit(None, call, point) for point in points]:
            if not self.wait_for(evaluation):
                raise self.error or RuntimeError(self.lost)
            self.pop(evaluation)
            yield evaluation

    def wait_for(self, evaluation: Evaluation) -> bool:
        """Waits for this evaluation. Returns whether it ended."""
        while evaluation in self.evaluations and not evaluation.ended:
            ended = self.next_done(wait=True)
            if ended is None:
                break
            self.arrived(ended)
        return evaluation in self.evaluations and evaluation.ended

    def next_done(self, wait: bool) -> Evaluation | None:
        """An evaluation that ended, each one once; None if waiting ends before."""
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

    def pop(self, evaluation: Evaluation) -> Any:
        """Removes an evaluation and returns what it is about."""
        del self.evaluations[evaluation]
        return evaluation.about

    def drop(self, evaluation: Evaluation, running: bool) -> None:
        """Removes one unless its call cannot be cancelled; with `running`, unless it has ended."""
        if evaluation.ended:
            return
        if evaluation.future is None:
            self.waiting.pop(evaluation, None)
        elif evaluation.future.cancel() or running:
            self.flying.pop(evaluation.future, None)
        else:
            return
        self.evaluations.pop(evaluation, None)

    def cancel(self) -> None:
        """Removes all evaluations whose calls have not begun, and ends calls if the executor can."""
        last_first = reversed(list(self.evaluations))  # so that no free worker takes a waiting one
        for evaluation in last_first:
            self.drop(evaluation, running=False)

    def _goes_on(self) -> bool:
        if self.lost is None and is_shut_down(self.executor):
            self._lose()
        return time.monotonic() < self.end or (not self.began and isinstance(self.executor, _Here))

    def _seconds(self) -> float:
        ends = map(self._deadline, self.flying.items()) if math.isfinite(self.timeout) else ()
        return max(0.0, min(MOMENT, min((self.end, *ends)) - time.monotonic()))

    def _deadline(self, flying: tuple[Future, Evaluation]) -> float:
        """When a call is late; inf while it waits in the executor."""
        future, evaluation = flying
        handed_over = evaluation.handed_over + self.slack
        began = getattr(future, "began", handed_over)  # of `executors.restarted`
        return math.inf if began is None else began + self.timeout + self.patience

    def _hand_over(self) -> None:
        while self.waiting and self.lost is None and len(self.flying) + len(self.stuck) < self.most:
            evaluation = next(iter(self.waiting))
            del self.waiting[evaluation]
            try:
                future = self.executor.submit(
                    evaluation.call, *evaluation.args, **evaluation.kwargs
                )
            except RuntimeError as error:  # the sign of a pool that was shut down
                self.evaluations.pop(evaluation)
                known = isinstance(error, BrokenExecutor) or is_shut_down(self.executor)
                if not self.began and not known:
                    error.add_note("executor took no evaluation.")
                    raise
                return self._lose(error)
            evaluation.future, self.began = require_future(future), True
            evaluation.handed_over = time.monotonic()
            self.flying[future] = evaluation
            future.add_done_callback(self.done.put)

    def _settle(self, future: Future) -> None:
        """Notes the end of a call."""
        self.stuck.discard(future)
        evaluation = self.flying.pop(future, None)
        if evaluation is None:  # dropped, or late
            return
        if future.cancelled():
            del self.evaluations[evaluation]
            return self._lose()
        evaluation.error = error = future.exception()
        if isinstance(error, BrokenExecutor):
            del self.evaluations[evaluation]
            self._lose(error)
        elif isinstance(error, PicklingError) and not evaluation.attempts:
            raise unsendable(error) from error
        elif isinstance(error, TimeoutError) and time.monotonic() >= self.end:
            del self.evaluations[evaluation]  # the time of all evaluations is over
        elif error is not None:
            self._fail(evaluation, error)
        else:
            evaluation.returned = future.result()
            self._finish(evaluation)

    def _fail(self, evaluation: Evaluation, error: BaseException) -> None:
        """Makes a call again, or ends its evaluation."""
        evaluation.error, evaluation.future = error, None
        evaluation.attempts += 1
        if evaluation.attempts > self.retries or isinstance(error, self.final) or self.lost:
            self._finish(evaluation)
        else:
            self.waiting = {evaluation: None} | self.waiting

    def _finish(self, evaluation: Evaluation) -> None:
        evaluation.ended = True
        self.news.append(evaluation)

    def _end_late(self) -> None:
        """Cancels calls that did not end by themselves."""
        if not math.isfinite(self.timeout):
            return
        now = time.monotonic()
        for future, evaluation in [
            flying for flying in self.flying.items() if self._deadline(flying) < now
        ]:
            del self.flying[future]
            if not future.cancel():
                self.stuck.add(future)
            self._fail(evaluation, TimeoutError(late(self.timeout)))
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
