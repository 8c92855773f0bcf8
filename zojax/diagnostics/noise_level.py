"""ECNoise: the noise of a function from a few values along a line."""

import math

import numpy as np


def noise_level(values: np.ndarray) -> float:
    r"""The standard deviation of the noise in values at equally spaced points of a line.

    A table of differences removes the smooth part. Its k-th column T estimates

    .. math::
        \sigma_k^2 = \frac{(k!)^2}{(2k)!\,(m - k)} \sum_i T_{i,k}^2

    The first column counts whose estimate agrees with the next two within a factor of 4, and that has
    differences of both signs.

    Args:
      values: (m,) of m >= 4 points, 7 or so, close together: noise must show beside the slope.

    Returns:
      sigma, 0 for equal values. nan if no column settles: the points are too far apart or too few.

    Raises:
      ValueError: fewer than 4 values, or values that are not finite.

    References:
      More and Wild, `Estimating computational noise <https://doi.org/10.1137/100786125>`_, 2011.

    >>> import numpy as np
    >>> x = 1e-3 * np.arange(8)
    >>> noisy = np.exp(x) + 1e-2 * np.random.default_rng(0).standard_normal(8)
    >>> 0.003 < noise_level(noisy) < 0.03
    True
    """
    values = np.asarray(values, np.float64)
    if values.ndim != 1 or len(values) < 4 or not np.isfinite(values).all():
        raise ValueError(
            f"values must be 4 or more finite numbers of a line, got {values!r}: leave out failures."
        )
    if np.ptp(values) == 0:
        return 0.0
    levels, signs = [], []
    table = values
    for k in range(1, len(values)):
        table = np.diff(table)
        factor = math.factorial(k) ** 2 / math.factorial(2 * k)
        levels.append(math.sqrt(factor * float(np.mean(table**2))))
        signs.append(bool(table.min() < 0 < table.max()))
    for level, *others, both in zip(levels, levels[1:], levels[2:], signs, strict=False):
        if both and max(level, *others) <= 4 * min(level, *others):
            return level
    return math.nan
