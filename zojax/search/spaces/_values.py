"""Values of a domain as arrays, and its shape as text."""

import numpy as np

from zojax.search.spaces._domain import Domain


def numbers_of(domain: Domain, value) -> np.ndarray:
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
    """The logarithm, -inf and nan below: outside of every domain."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.log(number)


def times(shape) -> str:
    return "".join(f" x {n}" for n in shape)
