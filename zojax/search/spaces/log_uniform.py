"""Positive real numbers on a logarithmic scale."""

import math
from dataclasses import dataclass

from zojax.search.spaces._arguments import as_bounds, as_shape, require_positive
from zojax.search.spaces._domain import CONTINUOUS, Domain, log_of, numbers_of, times
from zojax.search.spaces._precision import (
    fits_float,
    namespace_of,
    require_resolution,
    require_traceable,
)


@dataclass(frozen=True)
class LogUniform(Domain):
    """The real numbers in [lowest, highest], encoded by their logarithm."""

    lowest: float
    highest: float
    shape: tuple[int, ...] = ()
    kind = CONTINUOUS
    slack = 1e-6  # in the logarithm, so relative to the value

    @property
    def low(self):
        return math.log(self.lowest)

    @property
    def high(self):
        return math.log(self.highest)

    @property
    def traceable(self):
        return fits_float(self.lowest, self.highest)

    def decode(self, x):
        require_traceable(self, x)
        xp = namespace_of(x)
        return xp.clip(xp.exp(x), self.lowest, self.highest)

    def encode(self, value):
        return log_of(numbers_of(self, value))

    def __str__(self):
        return f"log_uniform({self.lowest:g}, {self.highest:g}){times(self.shape)}"


def log_uniform(low: float, high: float, shape: int | tuple[int, ...] = ()) -> Domain:
    """Positive real numbers with a uniform logarithm: learning rates, decays, scales.

    A sample is below x with probability log(x / low) / log(high / low).

    Args:
      low, high: the bounds, both included.
      shape: a size or a tuple of sizes, for an array of independent numbers.

    Raises:
      TypeError: a bound that is not a number.
      ValueError: bounds that are not finite, not 0 < low < high, or too close together for float32; a bad
        shape.

    >>> print(log_uniform(1e-5, 0.1))
    log_uniform(1e-05, 0.1)
    """
    low, high = as_bounds("log_uniform", low, high)
    require_positive("log_uniform", low)
    domain = LogUniform(float(low), float(high), as_shape(shape))
    require_resolution("log_uniform", low, high, domain.low, domain.high)
    return domain
