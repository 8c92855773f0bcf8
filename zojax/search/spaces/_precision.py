"""Numbers that floats and integers of JAX can hold."""

import math

import jax.numpy as jnp
import numpy as np

from zojax._numerics import float_dtype
from zojax.search.spaces._domain import Domain

FEWEST = 1024  # floats in a range, below which it cannot be searched
X64 = "enable x64: jax.config.update('jax_enable_x64', True)"


def has_x64() -> bool:
    return float_dtype() == np.float64


def exact_bits() -> int:
    """Of whole numbers that floats hold without a gap."""
    return 53 if has_x64() else 24


def fits_int(*values: int) -> bool:
    """Whether an array of JAX holds these integers."""
    limit = 2**63 if has_x64() else 2**31
    return all(-limit <= v < limit for v in values)


def fits_float(*values: float) -> bool:
    """Whether none of these numbers becomes 0 or inf in the default precision."""
    limits = np.finfo(float_dtype())
    least, most = float(limits.tiny), float(limits.max)
    sizes = [abs(float(v)) for v in values]
    return all(v == 0 or not math.isfinite(v) or least <= v <= most for v in sizes)


def int_dtype(x):
    """Of decoded integers: of 64 bits wherever there are, so that what is computed from them fits, too."""
    return np.int32 if namespace_of(x) is jnp and not has_x64() else np.int64


def require_traceable(domain: Domain, x) -> None:
    if namespace_of(x) is jnp and not domain.traceable:
        raise TypeError(
            f"{domain} holds numbers beyond int32 or {float_dtype()}, which a traced function cannot be "
            "given: pass jit=False, search an offset or a factor and do the rest in the function, "
            f"or {X64}."
        )


def require_few(name: str, size: int, remedy: str) -> None:
    """Positions on a grid are floats: there may be as many as floats count without a gap."""
    bits = exact_bits()
    if size > 2**bits:
        x64 = "" if has_x64() else f", or {X64}"
        raise ValueError(f"{name} would have {size:,} values, more than 2^{bits}: {remedy}{x64}.")


def require_resolution(name: str, low, high, first: float, last: float, size=math.inf) -> None:
    """Enough floats between the encoded bounds `first` and `last` for a search, or for all values."""
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


def namespace_of(x):
    return np if isinstance(x, (np.ndarray, np.generic, float, int)) else jnp
