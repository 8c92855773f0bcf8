"""A limit on the time of a call in this thread, by the alarm of the operating system."""

import math
import signal
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

AGAIN = 1.0  # seconds until the alarm rings again: a function may catch the first exception


def time_limit(seconds: float) -> AbstractContextManager[None]:
    """Raises TimeoutError in the block after so many seconds, where `can_interrupt()`.

    The interpreter raises it between two instructions: a call of compiled code ends first.
    """
    if not math.isfinite(seconds) or not can_interrupt():
        return nullcontext()
    return _alarmed(seconds)


@contextmanager
def _alarmed(seconds: float) -> Iterator[None]:
    def ring(*_: Any) -> None:
        raise TimeoutError(late(seconds))

    old = signal.signal(signal.SIGALRM, ring)
    try:
        signal.setitimer(signal.ITIMER_REAL, max(seconds, 1e-6), AGAIN)
        yield
    finally:
        try:
            signal.setitimer(signal.ITIMER_REAL, 0)
        finally:  # the alarm may ring just before
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, old)


def late(seconds: float) -> str:
    return f"the evaluation took more than {seconds:g} s"


def can_interrupt() -> bool:
    """Whether this is the main thread of a process that does not use its alarm otherwise."""
    return (
        hasattr(signal, "setitimer")
        and threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGALRM) == signal.SIG_DFL
    )


def require_limits(timeout: Any, retries: Any, executor: Any) -> float:
    """The timeout, inf for None. Raises for values out of range, or where nothing could keep it."""
    if not isinstance(retries, int) or isinstance(retries, bool) or retries < 0:
        raise ValueError(f"retries must be an int from 0 on, got {retries!r}.")
    if timeout is None:
        return math.inf
    if not isinstance(timeout, (int, float)) or isinstance(timeout, bool) or not timeout > 0:
        raise ValueError(f"timeout must be positive seconds or None, got {timeout!r}.")
    if executor is None and not can_interrupt():
        raise ValueError(
            f"timeout = {timeout:g} needs an executor outside the main thread, on Windows, and where "
            "SIGALRM has a handler: pass executor=zojax.executors.restarted(...)."
        )
    return float(timeout)
