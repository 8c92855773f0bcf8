"""Integers between two bounds, or at equal distances."""

from zojax.search.spaces._arguments import as_bounds, as_integers, as_shape
from zojax.search.spaces._domain import Domain
from zojax.search.spaces._grid import Grid
from zojax.search.spaces._precision import require_few


def integers(low: int, high: int, shape: int | tuple[int, ...] = (), *, step: int = 1) -> Domain:
    """Integers low, low + step, ..., up to and including `high`; samples are equally likely.

    Integers beyond int32 cannot be traced unless x64 is enabled: `fun` is then called on the host. In a
    compiled function all integers have 32 bits, and what is computed from them may overflow: `1.0 * n`.

    Args:
      low, high: the bounds.
      shape: a size or a tuple of sizes, for an array of independent ones.
      step: the distance of neighbours; the last one is at most `high`.

    Returns:
      A `Domain` of ints.

    Raises:
      TypeError: a bound or a step that is no int.
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
