"""The numbers that are kept of many rounds: medians, quartiles, paired ratios, exponents."""

import math
import statistics

SPREAD = 0.5  # interquartile range / median beyond which a ratio is noisy
LEAST = 3  # rounds of a ratio
FEW = 5  # rounds below which a ratio has its extremes in place of quartiles
MISFIT = 0.25  # of a logarithm: beyond it the values follow no power of the size


def summary(values: list[float]) -> dict:
    """Median, quartiles and number of values."""
    if len(values) == 1:
        low = middle = high = values[0]
    else:
        low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return {"median": middle, "low": low, "high": high, "n": len(values)}


def ratio(numerator: list[float], denominator: list[float]) -> dict | None:
    """The summary of the ratios inside each round that both took part in: the first ones.

    With fewer than `FEW` rounds, `low` and `high` are the extremes. Without a common round: None.
    """
    ratios = [a / b for a, b in zip(numerator, denominator, strict=False)]
    if not ratios:
        return None
    found = summary(ratios)
    return found | {"low": min(ratios), "high": max(ratios)} if len(ratios) < FEW else found


def clear(ratio: dict | None) -> float | str:
    """The median ratio, or the reason why a table omits it."""
    if ratio is None:
        return ""
    if ratio["n"] is not None and ratio["n"] < LEAST:
        return "few rounds"
    noisy = ratio["high"] - ratio["low"] > SPREAD * ratio["median"]
    return "noisy" if noisy else ratio["median"]


def exponent(sizes: list[float], values: list[float]) -> float | str:
    """b of value = a size^b, by least squares of logarithms, if all values are near the fit."""
    if len(values) < 2 or min(values) <= 0:
        return "no power"
    x, y = ([math.log(v) for v in values] for values in (sizes, values))
    slope, start = statistics.linear_regression(x, y)
    misfit = max(abs(b - slope * a - start) for a, b in zip(x, y, strict=True))
    return "no power" if misfit > MISFIT else slope
