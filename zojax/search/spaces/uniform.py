"""Real numbers between two bounds, or at equal distances."""

from dataclasses import dataclass

import numpy as np

from zojax.search.spaces._arguments import as_bounds, as_number, as_shape
from zojax.search.spaces._domain import CONTINUOUS, Domain, numbers_of, plain, times
from zojax.search.spaces._grid import Grid
from zojax.search.spaces._precision import require_few, require_resolution


@dataclass(frozen=True)
class Uniform(Domain):
    """The real numbers in [low, high]."""

    low: float
    high: float
    shape: tuple[int, ...] = ()
    kind = CONTINUOUS

    @property
    def slack(self):
        return 1e-6 * max(abs(self.low), abs(self.high))

    def decode(self, x):
        return x

    def to_python(self, x):
        if x.min(initial=self.low) >= self.low and x.max(initial=self.high) <= self.high:
            # The common case, without temporary arrays as large as a history.
            return plain(x)
        # float32(0.3) is above 0.3. Points further outside are on purpose: `sre(project=False)`.
        nearest = np.clip(x, self.low, self.high)
        is_rounding = np.abs(x - nearest) <= self.slack
        return plain(np.where(is_rounding, nearest, x))

    def encode(self, value):
        return numbers_of(self, value)

    def __str__(self):
        return f"uniform({self.low:g}, {self.high:g}){times(self.shape)}"


def uniform(
    low: float, high: float, shape: int | tuple[int, ...] = (), *, step: float | None = None
) -> Domain:
    """Real numbers from `low` to `high`, both included. With a step: low, low + step, ...

    Samples are uniform. With a step, every value is equally likely.

    Args:
      low, high: the bounds.
      shape: a size or a tuple of sizes, for an array of independent numbers.
      step: the distance of neighbours. The last value is at most `high`.

    Raises:
      TypeError: a bound or a step that is not a number.
      ValueError: bounds that are not finite, not low < high, or too close together for float32; a step
        outside (0, high - low]; a bad shape.

    >>> print(uniform(-1, 1, shape=(3,)), uniform(0, 1, step=0.25))
    uniform(-1, 1) x 3 uniform(0, 1, step=0.25)
    """
    low, high = as_bounds("uniform", low, high)
    if step is None:
        domain = Uniform(float(low), float(high), as_shape(shape))
        require_resolution("uniform", low, high, domain.low, domain.high)
        return domain
    step = as_number("uniform", "step", step)
    if not step > 0 or step > high - low:
        raise ValueError(f"step must lie between 0 and high - low = {high - low}, got {step}.")
    size = int((high - low) / step * (1 + 1e-9)) + 1
    require_few("uniform", size, "pass a larger step, or none")
    require_resolution("uniform", low, high, float(low), float(high), size)
    return Grid(float(low), float(step), size, False, as_shape(shape))
