"""ZOOpt's table of sizes: points, positives and redrawn coordinates, from the budget and the space."""

import math

from zojax.search.spaces import Space

# (largest budget, points, positives)
TABLE = (50, 4, 1), (100, 6, 1), (1000, 12, 2), (math.inf, 22, 2)


def sizes_for(budget: int, num_positives: int | None = None) -> tuple[int, int]:
    """(points, positives) of a budget, with `num_positives` in place of the table's positives.

    >>> sizes_for(1000), sizes_for(1000, 15)
    ((12, 2), (17, 15))
    """
    total, positives = next(sizes for limit, *sizes in TABLE if budget <= limit)
    positives = num_positives or positives
    return max(total, positives + 2), positives


def positives_of(total: int) -> int:
    """The table's number of positives among `total` points."""
    return next(positives for _, points, positives in TABLE if total <= points)


def num_redrawn(space: Space) -> int:
    """How many coordinates of a good point are redrawn: 1 to 5, more in large discrete spaces."""
    d = space.dimension
    limits = (10, 50, 100, 1000) if space.is_discrete else (100, 1000)
    return min(1 + sum(d > limit for limit in limits), d)
