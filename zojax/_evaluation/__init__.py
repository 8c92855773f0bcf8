"""Evaluations of Python functions: one call, the calls in flight, and the workers that make them."""

from zojax._evaluation.call import SECONDS, Call, Timed
from zojax._evaluation.evaluator import Evaluator, Task
from zojax._evaluation.limits import require_limits
from zojax._evaluation.workers import WorkerDied, is_shut_down, require_executor, workers_of

__all__ = [
    "SECONDS",
    "Call",
    "Evaluator",
    "Task",
    "Timed",
    "WorkerDied",
    "is_shut_down",
    "require_executor",
    "require_limits",
    "workers_of",
]
