"""Values of a domain as arrays, and its shape as text."""

from typing import Any

import numpy as np

from zojax.search.spaces._domain import Domain


def numbers_of(domain: Domain, value: Any) -> np.ndarray:
    """The numbers of a value, with the domain's shape."""
    try:
        numbers = np.asarray(value, float)
    except (TypeError, ValueError) as error:
        raise ValueError(f"a value of {domain} must hold numbers, got {value!r}.") from error
    if numbers.shape != domain.shape:
        raise ValueError(
            f"a value of {domain} must have shape {domain.shape}, got {numbers.shape}."
        )
    return numbers


def log_of(number: np.ndarray) -> np.ndarray:
    """The logarithm: -inf or nan for numbers that are not positive, which no domain contains."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.log(number)


def times(shape: tuple[int, ...]) -> str:
    """A shape as text: " x 2 x 3"."""
    return "".join(f" x {n}" for n in shape)
