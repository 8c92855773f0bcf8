"""Positive integers on a logarithmic scale."""

import math
from dataclasses import dataclass

import numpy as np

from zojax.search.spaces._arguments import as_bounds, as_integers, as_shape, require_positive
from zojax.search.spaces._domain import CONTINUOUS, Domain, combinations, log_of, numbers_of, times
from zojax.search.spaces._precision import (
    fits_int,
    int_dtype,
    namespace_of,
    require_resolution,
    require_traceable,
)


@dataclass(frozen=True)
class LogIntegers(Domain):
    """The integers lowest ... highest. The coordinates [log(n - 1/2), log(n + 1/2)] encode n."""

    lowest: int
    highest: int
    shape: tuple[int, ...] = ()
    kind = CONTINUOUS

    @property
    def low(self):
        return math.log(self.lowest - 0.5)

    @property
    def high(self):
        return math.log(self.highest + 0.5)

    @property
    def size(self):
        return self.highest - self.lowest + 1

    @property
    def count(self):
        return self.size ** math.prod(self.shape)

    @property
    def traceable(self):
        return fits_int(self.highest)

    def values(self):
        return combinations(np.log(np.arange(self.lowest, self.highest + 1)), self.shape)

    def snap(self, x):
        return namespace_of(x).log(self._nearest(x))

    def decode(self, x):
        require_traceable(self, x)
        # Clipped again, because a float32 may round beyond the largest integer.
        value = self._nearest(x).astype(int_dtype(x))
        return namespace_of(x).clip(value, self.lowest, self.highest)

    def encode(self, value):
        number = numbers_of(self, value)
        if np.any(number != np.round(number)):
            raise ValueError(f"{value!r} is not one of the values of {self}.")
        inside = (number >= self.lowest) & (number <= self.highest)
        return log_of(np.where(inside, number, np.nan))

    def _nearest(self, x):
        xp = namespace_of(x)
        # In floats, because the integers may exceed int32.
        return xp.clip(xp.round(xp.exp(x)), float(self.lowest), float(self.highest))

    def __str__(self):
        return f"log_integers({self.lowest}, {self.highest}){times(self.shape)}"


def log_integers(low: int, high: int, shape: int | tuple[int, ...] = ()) -> Domain:
    """Positive integers, `high` included, with a nearly uniform logarithm: widths, batch sizes.

    A sample is n with probability log((n + 1/2) / (n - 1/2)) / log((high + 1/2) / (low - 1/2)). From 1 to 8
    these are .388, .180, .119, .089, .071, .059, .051, .044. Beyond a million, float32 does not separate
    the logarithms of neighbours, so some integers never occur. In a compiled function, all integers have 32
    bits, and their products may overflow: multiply as floats, `1.0 * n`.

    Args:
      low, high: the bounds.
      shape: a size or a tuple of sizes, for an array of independent integers.

    Raises:
      TypeError: a bound that is not an int.
      ValueError: bounds that are not 0 < low < high, beyond 2^53, or too close together for their
        logarithms in float32; a bad shape.

    >>> print(log_integers(1, 1024))
    log_integers(1, 1024)
    """
    low, high = as_integers("log_integers", low=low, high=high)
    as_bounds("log_integers", low, high)
    require_positive("log_integers", low)
    domain = LogIntegers(low, high, as_shape(shape))
    require_resolution("log_integers", low, high, domain.low, domain.high, domain.size)
    return domain
