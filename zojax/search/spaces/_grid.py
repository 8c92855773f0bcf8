"""A grid of values at equal distances: integers, or real numbers with a step."""

from dataclasses import dataclass
from decimal import Decimal

import numpy as np

from zojax.search.spaces._domain import ORDERED, Domain, numbers_of, plain, times
from zojax.search.spaces._precision import fits_int, int_dtype, namespace_of, require_traceable


@dataclass(frozen=True)
class Grid(Domain):
    """The `size` values first, first + step, ...: integers, or real numbers."""

    first: float
    step: float
    size: int
    integral: bool
    shape: tuple[int, ...] = ()
    kind = ORDERED
    low = 0

    @property
    def high(self):
        return self.size - 1

    @property
    def last(self):
        return self.first + self.step * (self.size - 1)

    @property
    def traceable(self):
        return not self.integral or fits_int(self.first, self.last)

    def decode(self, x):
        require_traceable(self, x)
        index = namespace_of(x).round(x)
        if self.integral:
            index = index.astype(int_dtype(x))
        return self.first + self.step * index

    def to_python(self, x):
        value = self.decode(x)
        if not self.integral:
            # Round to the decimals of the first value and the step, so that 3 * 0.1 is 0.3.
            exponents = [Decimal(repr(v)).as_tuple().exponent for v in (self.first, self.step)]
            value = np.round(value, max(0, -min(exponents)))
        return plain(value)

    def encode(self, value):
        index = (numbers_of(self, value) - self.first) / self.step
        off = np.abs(index - np.round(index)) > (0 if self.integral else 1e-3)
        if np.any(off):
            raise ValueError(f"{value!r} is not one of the values of {self}.")
        return np.round(index)

    def __str__(self):
        last = self.last
        if self.integral:
            step = "" if self.step == 1 else f", step={self.step}"
            return f"integers({self.first}, {last}{step}){times(self.shape)}"
        return f"uniform({self.first:g}, {last:g}, step={self.step:g}){times(self.shape)}"
