"""Which numbers JAX's floats and integers can hold."""

import math
from typing import Any

import jax.numpy as jnp
import numpy as np

from zojax._numerics import float_dtype
from zojax.search.spaces._domain import Domain

FEWEST = 1024  # fewest floats in a range that can be searched
X64 = "enable x64: jax.config.update('jax_enable_x64', True)"


def has_x64() -> bool:
    """Whether JAX computes in float64."""
    return float_dtype() == np.float64


def exact_bits() -> int:
    """Floats hold every whole number up to two to this power."""
    return 53 if has_x64() else 24


def fits_int(*values: int) -> bool:
    """Whether a JAX array can hold these integers."""
    limit = 2**63 if has_x64() else 2**31
    return all(-limit <= v < limit for v in values)


def fits_float(*values: float) -> bool:
    """Whether these numbers stay finite and nonzero in the default precision."""
    limits = np.finfo(float_dtype())
    least, most = float(limits.tiny), float(limits.max)
    sizes = [abs(float(v)) for v in values]
    return all(v == 0 or not math.isfinite(v) or least <= v <= most for v in sizes)


def int_dtype(x: Any) -> type:
    """The dtype of decoded integers: 64 bits if available, so that results computed from them fit."""
    return np.int32 if namespace_of(x) is jnp and not has_x64() else np.int64


def require_traceable(domain: Domain, x: Any) -> None:
    """Raises if x is traced and the domain's values do not fit JAX's arrays."""
    if namespace_of(x) is jnp and not domain.traceable:
        raise TypeError(
            f"{domain} holds numbers beyond int32 or {float_dtype()}, too large for a traced function: "
            "pass jit=False, search an offset or a factor and do the rest in the function, "
            f"or {X64}."
        )


def require_few(name: str, size: int, remedy: str) -> None:
    """Raises for too many positions on a grid: floats hold whole numbers only up to a limit."""
    bits = exact_bits()
    if size > 2**bits:
        x64 = "" if has_x64() else f", or {X64}"
        raise ValueError(f"{name} would have {size:,} values, more than 2^{bits}: {remedy}{x64}.")


def require_resolution(
    name: str, low: float, high: float, first: float, last: float, size: float = math.inf
) -> None:
    """Raises for too few floats between the encoded bounds `first` and `last`."""
    dtype = float_dtype()
    largest = max(abs(first), abs(last), last - first)
    if largest > float(np.finfo(dtype).max):
        raise ValueError(
            f"{name} from {low} to {high} reaches beyond {dtype}: search a scaled variable, or {X64}."
        )
    count = (last - first) / float(np.spacing(dtype.type(largest)))
    if count < min(size - 1, FEWEST):
        raise ValueError(
            f"{name} from {low} to {high} holds only {count:.0f} numbers in {dtype}: search the offset "
            f"from {low} and add the rest in the function, or {X64}."
        )


def namespace_of(x: Any) -> Any:
    """NumPy for arrays on the host, jax.numpy for all others."""
    return np if isinstance(x, (np.ndarray, np.generic, float, int)) else jnp
