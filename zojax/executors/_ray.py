"""Ray as an executor: tasks, or actors that keep a worker's own object."""

import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Executor, Future
from functools import partial
from threading import Lock
from typing import Any

from zojax._evaluation import WorkerDied
from zojax._evaluation.workers import unsendable
from zojax.executors._restarted import Call, restarted

KEPT = 8  # functions in the object store
START_SECONDS = 300.0  # in which nodes and workers may start


def ray(*, retries: int = 3, num_workers: int | None = None, **options: Any) -> Executor:
    """An executor of Ray tasks (extra `ray`).

    - It starts Ray, or joins the cluster of `RAY_ADDRESS`, only if Ray does not run yet.
    - A function goes to the object store once, and to each worker process once. Its closure may be large.
    - Cancelling a call ends its process. `timeout=` of a search does so with late evaluations, five minutes
      later if no alarm ends them: a node or a worker may have to start.

    Args:
      retries: how often a call is made again when its worker or its node dies.
      num_workers: calls at once; by default as many as the cluster has room for now.
      **options: of `ray.remote`, for each call: `num_cpus` (1 by default), `num_gpus`, `resources`, ...

    Returns:
      An `Executor`. It leaves Ray running.

    Raises:
      ImportError: Ray is missing.
    """
    return _Tasks(_running_ray(), retries, num_workers, options)


def ray_actors(
    make_worker: Callable[[], Any], count: int, *, retries: int = 3, **options: Any
) -> Executor:
    """An executor of Ray actors, each with an object of its own (extra `ray`).

    An actor calls `make_worker()` at its first call, to load a model or a simulator. Functions get the
    object as `worker`: a search calls `fun(point, *args, worker=worker)`. An actor that dies is replaced.

    Args:
      make_worker: () -> any object.
      count: actors.
      retries: how often a call is made again when its actor dies.
      **options: of `ray.remote`, for each actor: `num_cpus`, `num_gpus`, `resources`, ...

    Returns:
      An `Executor`. Leaving its `with` block ends the actors.

    Raises:
      ImportError: Ray is missing.
      TypeError: a `make_worker` that is no function, or cannot be sent.
    """
    if not callable(make_worker):
        raise TypeError(f"make_worker must be a function without arguments, got {make_worker!r}.")
    module = _running_ray()
    sent = _Sent(module)
    actor = module.remote(**options or {"num_cpus": 1})(_actor_class(module))
    factory = partial(_Actor, module, sent, actor, sent(make_worker))
    pool = restarted(factory, count, retries=retries, kill=_Actor.shutdown)
    pool.start_seconds = START_SECONDS
    return pool


def _running_ray() -> Any:
    try:
        import ray as module
    except ImportError as error:
        raise ImportError('this executor needs Ray: pip install "zojax[ray]".') from error
    if not module.is_initialized():
        module.init()
    return module


class _Sent:
    """References of functions in the object store, each put there once."""

    def __init__(self, module: Any):
        self.module = module
        self.kept: deque[tuple[Callable, Any]] = deque(maxlen=KEPT)

    def __call__(self, fun: Callable) -> Any:
        for known, reference in self.kept:
            if known is fun:
                return reference
        try:
            reference = self.module.put(fun)
        except TypeError as error:
            raise unsendable(error) from error
        self.kept.append((fun, reference))
        return reference


class _Tasks(Executor):
    """See `ray`."""

    start_seconds = START_SECONDS

    def __init__(self, module: Any, retries: int, num_workers: int | None, options: dict[str, Any]):
        self.module, self.sent, self._shutdown = module, _Sent(module), False
        self.task = module.remote(max_retries=retries, **options)(_caller(module))
        self.num_workers = _room(module, options) if num_workers is None else num_workers
        self.extra_calls = self.num_workers  # or else Ray gives each worker back after its call
        self.running: set[Call] = set()
        self.waiting: deque[Call] = deque()
        self.lock = Lock()

    def submit(self, fun: Callable, /, *args: Any, **kwargs: Any) -> Future:
        if self._shutdown:
            raise RuntimeError("cannot schedule new futures after shutdown")
        reference = self.task.remote([self.sent(fun)], args, kwargs)
        call = Call(reference, lambda _: self.module.cancel(reference, force=True))
        with self.lock:
            self.waiting.append(call)
            self._begin()
        call.add_done_callback(lambda _: self._end(call))
        reference.future().add_done_callback(partial(_pass_on, call, WorkerDied))
        return call

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self._shutdown = True
        with self.lock:
            calls = [*self.running, *self.waiting]
        for call in calls:
            if cancel_futures:
                call.cancel()
            elif wait:
                call.exception()

    def _end(self, call: "Call") -> None:
        with self.lock:
            self.running.discard(call)
            if call in self.waiting:
                self.waiting.remove(call)
            self._begin()

    def _begin(self) -> None:
        """Notes which calls Ray has begun, in their order, as workers are free."""
        while self.waiting and len(self.running) < self.num_workers:
            call = self.waiting.popleft()
            call.began = time.monotonic() + self.start_seconds
            self.running.add(call)


class _Actor(Executor):
    """An actor, as a pool of one worker."""

    num_workers = 1

    def __init__(self, module: Any, sent: _Sent, actor: Any, make_worker: Any):
        self.module, self.sent, self.handle = module, sent, actor.remote([make_worker])

    def submit(self, fun: Callable, /, *args: Any, **kwargs: Any) -> Future:
        reference = self.handle.call.remote([self.sent(fun)], args, kwargs)
        call = Call(reference, lambda _: None)
        reference.future().add_done_callback(partial(_pass_on, call, BrokenExecutor))
        return call

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self.module.kill(self.handle)


def _pass_on(call: Call, died: type[Exception], ended: Future) -> None:
    """Ends a call as Ray ended it, with the exception that the function raised."""
    error = ended.exception()
    if error is None:
        return call.end(ended.result())
    cause = getattr(error, "cause", None)
    call.end(error=died(str(error)) if cause is None else cause)


def _caller(module: Any) -> Callable:
    """The remote function. Each worker process keeps the last function that it got."""
    kept: dict[Any, Callable] = {}

    def call(references: list, args: tuple, kwargs: dict[str, Any]) -> Any:
        (reference,) = references  # in a list, or else Ray would load it for each call
        if reference not in kept:
            kept.clear()
            kept[reference] = module.get(reference)
        return kept[reference](*args, **kwargs)

    return call


def _actor_class(module: Any) -> type:
    class Worker:
        def __init__(self, references: list):
            self.make_worker, self.caller = references, _caller(module)

        def call(self, references: list, args: tuple, kwargs: dict[str, Any]) -> Any:
            if not hasattr(self, "worker"):  # made in a call, whose exceptions reach the caller
                self.worker = module.get(self.make_worker[0])()
            return self.caller(references, args, kwargs | {"worker": self.worker})

    return Worker


def _room(module: Any, options: dict[str, Any]) -> int:
    """How many calls the cluster runs at once."""
    needs = {"CPU": options.get("num_cpus", 1), "GPU": options.get("num_gpus", 0)}
    needs |= options.get("resources", {})
    has = module.cluster_resources()
    return max(1, int(min(has.get(name, 0) // need for name, need in needs.items() if need)))
