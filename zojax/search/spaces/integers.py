"""Integers between two bounds, or at equal distances."""

from zojax.search.spaces._arguments import as_bounds, as_integers, as_shape
from zojax.search.spaces._domain import Domain
from zojax.search.spaces._grid import Grid
from zojax.search.spaces._precision import require_few


def integers(low: int, high: int, shape: int | tuple[int, ...] = (), *, step: int = 1) -> Domain:
    """Integers low, low + step, ..., `high` included. All values are equally likely.

    A space with integers beyond int32 runs `fun` on the host, unless x64 is enabled. In a compiled
    function, all integers have 32 bits, and their products may overflow: multiply as floats, `1.0 * n`.

    Args:
      low, high: the bounds.
      shape: a size or a tuple of sizes, for an array of independent integers.
      step: the distance of neighbours. The last value is at most `high`.

    Raises:
      TypeError: a bound or a step that is not an int.
      ValueError: bounds that are not low < high, or beyond 2^53; a step outside [1, high - low]; more than
        2^24 values, unless x64 is enabled; a bad shape.

    >>> print(integers(8, 64, step=8))
    integers(8, 64, step=8)
    """
    low, high, step = as_integers("integers", low=low, high=high, step=step)
    as_bounds("integers", low, high)
    if step < 1 or step > high - low:
        raise ValueError(f"step must lie between 1 and high - low = {high - low}, got {step}.")
    size = (high - low) // step + 1
    require_few("integers", size, "pass a larger step, use log_integers, or search its digits")
    return Grid(low, step, size, True, as_shape(shape))
