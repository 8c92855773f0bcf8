"""One call of the user's function, as a worker makes it: timed, and ended when it takes too long."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from zojax._evaluation.limits import time_limit

SECONDS = "_zojax_seconds"  # the attribute of an exception with the duration of its call


class Timed(NamedTuple):
    """The result of a call, and its duration."""

    returned: Any
    seconds: float


@dataclass(frozen=True, eq=False)
class Call:
    """`fun(point, *args, **extra)`, here or in a worker; the same object for all points.

    An exception carries the duration of its call along. In the main thread of a process, a call keeps its
    timeout by itself.
    """

    fun: Callable[..., Any]
    args: tuple = ()
    timeout: float = math.inf

    def __call__(self, point: Any, **extra: Any) -> Timed:
        began = time.perf_counter()
        try:
            with time_limit(self.timeout):
                returned = self.fun(point, *self.args, **extra)
        except Exception as error:
            vars(error)[SECONDS] = time.perf_counter() - began
            raise
        return Timed(returned, time.perf_counter() - began)
