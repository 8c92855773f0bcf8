"""Checks of the arguments of domains."""

import math
from typing import Any

import numpy as np

from zojax._checks import LARGEST_COUNT

CONSTANT = "; pass a constant in args, not in the space"


def as_shape(shape: Any) -> tuple[int, ...]:
    """A size or a tuple of sizes as a tuple."""
    sizes = (shape,) if np.ndim(shape) == 0 else tuple(shape)
    if any(not isinstance(n, (int, np.integer)) or n < 1 for n in sizes):
        raise ValueError(f"shape must be a size or a tuple of sizes, 1 or more, got {shape!r}.")
    if math.prod(map(int, sizes)) > LARGEST_COUNT:
        raise ValueError(f"shape must have at most 2^31 - 1 entries, got {shape!r}.")
    return tuple(int(n) for n in sizes)


def as_bounds(name: str, low: Any, high: Any) -> tuple[float, float]:
    """Finite numbers low < high."""
    low, high = as_number(name, "low", low), as_number(name, "high", high)
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        remedy = CONSTANT if low == high else ""
        raise ValueError(f"{name} needs finite bounds low < high, got {low} and {high}{remedy}.")
    return low, high


def as_number(name: str, argument: str, value: Any) -> float | int:
    """A Python number, which does not overflow as an int8 does."""
    if np.ndim(value) or np.asarray(value).dtype.kind not in "biuf":
        raise TypeError(
            f"{argument} of {name} must be a number, got {value!r}; pass shape= for an array, or "
            "a list of domains for different bounds."
        )
    return np.asarray(value).item()


def require_positive(name: str, low: float) -> None:
    """Raises unless the lower bound is positive."""
    if low <= 0:
        raise ValueError(f"low of {name} must be a positive lower bound, got {low}.")


def as_integers(name: str, **values: Any) -> tuple[int, ...]:
    """Python ints within 2^53, because points are decoded in float64."""
    for argument, value in values.items():
        if not isinstance(value, (int, np.integer)) or isinstance(value, bool):
            raise TypeError(f"{argument} of {name} must be an int, got {value!r}.")
        if abs(int(value)) > 2**53:
            raise ValueError(
                f"{argument} of {name} must lie within 2^53, got {value}: search an offset, and add "
                "the rest in the function."
            )
    return tuple(int(value) for value in values.values())
