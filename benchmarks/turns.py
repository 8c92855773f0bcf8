"""What one turn of a contestant is; for any interpreter, without JAX."""

import statistics
from collections.abc import Callable

SHORT = 0.5  # seconds of a step
TURN = 0.1  # seconds of a turn of short steps


def often(step: Callable[[], float]) -> float:
    """Seconds of one step; a short one is taken more often, and the median of all but the first counts.

    The contestant before may have filled caches and memory with gigabytes of its own, and a step of
    milliseconds is at the mercy of the scheduler.
    """
    first = step()
    if first >= SHORT:
        return first
    more = min(20, max(1, int(TURN / max(first, 1e-9))))
    return statistics.median(step() for _ in range(more))
