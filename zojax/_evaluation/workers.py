"""What zojax asks of an executor, beside `submit`."""

from concurrent.futures import Future
from typing import Any


class WorkerDied(RuntimeError):
    """The worker of an evaluation died, in each attempt."""


def require_executor(executor: Any) -> None:
    """Raises unless the executor is None or takes calls."""
    if executor is None:
        return
    if callable(getattr(executor, "get_executor", None)):  # a Client of Dask
        raise TypeError(
            f"executor must return futures of concurrent.futures, got {executor!r}: "
            "pass client.get_executor()."
        )
    if not callable(getattr(executor, "submit", None)):
        raise TypeError(
            "executor must be one of concurrent.futures, such as ThreadPoolExecutor(4), "
            f"got {executor!r}."
        )
    if is_shut_down(executor):
        raise ValueError(
            f"executor must take evaluations, got {executor!r}, which was shut down: keep it open "
            "until the search returns."
        )


def is_shut_down(executor: Any) -> bool:
    """Whether a pool of the standard library or of zojax is shut down. Others refuse work instead."""
    shut = getattr(executor, "_shutdown", None) is True
    return shut or getattr(executor, "_shutdown_thread", None) is True


def workers_of(executor: Any) -> int | None:
    """How many calls an executor runs at once; None if it does not say.

    `num_workers` is of zojax and mpi4py, `_max_workers` of the standard library and loky, and a client
    with `nthreads()` of Dask.
    """
    for name in ("num_workers", "_max_workers"):
        if isinstance(workers := getattr(executor, name, None), int):
            return workers
    threads = getattr(getattr(executor, "_client", None), "nthreads", None)
    return (sum(threads().values()) or None) if callable(threads) else None


def require_sendable(executor: Any, call: Any) -> None:
    """Raises TypeError if a process pool cannot pickle a call."""
    from concurrent.futures import ProcessPoolExecutor  # imports multiprocessing
    from multiprocessing.reduction import ForkingPickler

    pools = getattr(executor, "pools", (executor,))
    if any(isinstance(pool, ProcessPoolExecutor) for pool in pools):
        try:
            ForkingPickler.dumps(call)
        except Exception as error:
            raise unsendable(error) from error


def unsendable(error: Exception) -> TypeError:
    why = f"{type(error).__name__}: {error}".splitlines()[0]  # Ray's has many lines
    return TypeError(
        f"fun, its args and its values must be picklable for other processes, got {why}. Define fun at the "
        "top of a module, or take an executor that sends any function: loky, Ray or Dask."
    )


def require_future(future: Any) -> Future:
    if not callable(getattr(future, "add_done_callback", None)):
        raise TypeError(
            f"executor.submit must return a future of concurrent.futures, got {future!r}."
        )
    return future
