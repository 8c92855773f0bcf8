"""Real numbers without bounds."""

from dataclasses import dataclass

import numpy as np

from zojax.search.spaces._arguments import as_number, as_shape
from zojax.search.spaces._domain import CONTINUOUS, Domain, numbers_of, times
from zojax.search.spaces._precision import (
    fits_float,
    namespace_of,
    require_resolution,
    require_traceable,
)

FARTHEST = 1e6  # scales
RATE = float(np.arcsinh(FARTHEST))
POWER = 8  # larger ones gather samples near loc, and make the function steeper far outside


@dataclass(frozen=True)
class Real(Domain):
    """Real numbers, encoded by u in [-1, 1]: loc + scale (2 u + sign(u) sinh(14.5 u^8))."""

    loc: float
    scale: float
    shape: tuple[int, ...] = ()
    kind = CONTINUOUS
    low = -1.0
    high = 1.0
    slack = 1e-6

    @property
    def traceable(self):
        reach = 2 * FARTHEST * self.scale
        return fits_float(self.loc - reach, self.loc + reach, self.scale)

    def decode(self, x):
        require_traceable(self, x)
        xp = namespace_of(x)
        return self.loc + self.scale * (2 * x + xp.sign(x) * xp.sinh(RATE * x**POWER))

    def encode(self, value):
        number = (numbers_of(self, value) - self.loc) / self.scale
        distance = np.abs(number)
        # Newton's method from above, which does not overshoot, because the function is convex.
        u = np.minimum(distance / 2, (np.arcsinh(distance) / RATE) ** (1 / POWER))
        for _ in range(20):
            power = RATE * u**POWER
            slope = 2 + POWER * RATE * u ** (POWER - 1) * np.cosh(power)
            u = u - (2 * u + np.sinh(power) - distance) / slope
        return np.sign(number) * u

    def __str__(self):
        return f"real({self.loc:g}, {self.scale:g}){times(self.shape)}"


def real(loc: float = 0.0, scale: float = 1.0, shape: int | tuple[int, ...] = ()) -> Domain:
    """Real numbers without bounds: the search begins around `loc`, and goes as far as it pays.

        x = loc + scale (2 u + sign(u) sinh(14.5 u^8)),    u ~ U(-1, 1)

    is a sample. Half of the samples lie within 1.1 scales of `loc`, 70 % within 2.3, 90 % within 260, and
    all within a million. So the search sees the same function near `loc`, and a logarithmic scale far away.

    Args:
      loc: a guess of the best number.
      scale: its likely error.
      shape: a size or a tuple of sizes, for an array of independent numbers.

    Raises:
      TypeError: a loc or a scale that is not a number.
      ValueError: a loc or a scale that is not finite; a scale that is not positive, or too small beside
        `loc` for float32; a bad shape.

    >>> from zojax import search
    >>> found = search.minimize(lambda x: (x - 100) ** 2, search.real(0, 1), budget=200, key=0)
    >>> round(found.best, 1)
    100.0
    """
    loc, scale = as_number("real", "loc", loc), as_number("real", "scale", scale)
    if not (np.isfinite(loc) and 0 < scale < np.inf):
        raise ValueError(f"real needs a finite loc and a positive scale, got {loc} and {scale}.")
    domain = Real(float(loc), float(scale), as_shape(shape))
    first, last = loc - 2 * scale, loc + 2 * scale
    require_resolution("real", first, last, first, last)
    return domain
