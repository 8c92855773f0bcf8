"""Checks of static arguments. Each error names the argument, the value and the remedy."""

from collections.abc import Collection

import jax
import jax.numpy as jnp
import numpy as np

LARGEST_COUNT = 2**31 - 1  # of int32


def brief(value) -> str:
    """The text of a value, or its type if the text is long, as for a tree of parameters."""
    text = repr(value)
    return text if len(text) <= 60 else f"a {type(value).__name__}"


def require_kind(name: str, value, kind: type) -> None:
    """Raises TypeError unless `value` is of a class; a function may be a factory that was not called."""
    if not isinstance(value, kind):
        hint = f"; did you forget to call it, {name}=...()?" if callable(value) else "."
        article = "an" if kind.__name__[0] in "AEIOU" else "a"
        raise TypeError(f"{name} must be {article} {kind.__name__}, got {value!r}{hint}")


def require_number(name: str, value) -> None:
    """Raises TypeError unless an optional argument is a number."""
    if np.ndim(value) or np.asarray(value).dtype.kind not in "iuf":
        raise TypeError(f"{name} must be a number, got {value!r}; leave it out to have none.")


def require_positive(name: str, value) -> None:
    """Raises unless `value` is a positive number and not a schedule; traced values pass."""
    if isinstance(value, jax.core.Tracer):
        return
    require_no_schedule(name, value)
    number = np.asarray(value)
    if (
        number.shape
        or number.dtype.kind not in "iuf"
        and not jnp.issubdtype(number.dtype, jnp.floating)
    ):
        raise TypeError(f"{name} must be a number, got {value!r}.")
    if not (number > 0 and np.isfinite(number)):
        raise ValueError(f"{name} must be positive and finite, got {value}.")
    with np.errstate(over="ignore"):
        single = np.float32(number)
    if not 0 < single < np.inf:
        raise ValueError(
            f"{name} must be positive and finite in float32 too, where {value} is {single:g}."
        )


def require_fraction(name: str, value) -> float:
    """A static number in (0, 1], as a float."""
    _require_static(name, value, "number")
    require_no_schedule(name, value)
    require_rate(name, value)
    if not 0 < float(value) <= 1:
        raise ValueError(f"{name} must be in (0, 1], got {value}.")
    return float(value)


def require_no_schedule(name: str, value) -> None:
    """Raises TypeError for a function."""
    if callable(value):
        raise TypeError(f"{name} must be a number, got {brief(value)}; it has no schedule.")


def require_rate(name: str, value) -> None:
    """Raises unless `value` is a number and not negative; traced values and schedules pass."""
    if isinstance(value, jax.core.Tracer) or callable(value):
        return
    is_number = isinstance(value, (int, float, np.generic, np.ndarray, jax.Array))
    if not is_number or np.ndim(value):
        raise TypeError(f"{name} must be a number or a schedule, got {brief(value)}.")
    if not 0 <= float(value) < np.inf:
        raise ValueError(f"{name} must be finite and not negative, got {value}.")
    if float(value) > np.finfo(np.float32).max:
        raise ValueError(f"{name} must be finite in float32, got {value}.")
    if isinstance(value, int) and value > LARGEST_COUNT:
        raise ValueError(f"{name} must be a float above 2^31 - 1, got the int {value}.")


def require_count(name: str, value, most: float = LARGEST_COUNT) -> int:
    """A positive static int up to `most`; else raises with the remedy."""
    _require_static(name, value, "int")
    if (
        isinstance(value, (jax.Array, np.ndarray))
        and value.shape == ()
        and value.dtype.kind in "iu"
    ):
        value = int(value)
    if not isinstance(value, (int, np.integer)) or isinstance(value, bool):
        raise TypeError(f"{name} must be an int, got {value!r}.")
    if value < 1:
        raise ValueError(f"{name} must be at least 1, got {value}.")
    if value > most:
        raise ValueError(f"{name} must be at most 2^31 - 1, got {value}.")
    return int(value)


def _require_static(name: str, value, kind: str) -> None:
    if isinstance(value, jax.core.Tracer):
        raise TypeError(
            f"{name} must be a static {kind}, got a traced value; "
            f"under optax.inject_hyperparams pass static_args={name!r}."
        )


def require_flag(name: str, value) -> None:
    """Raises TypeError unless `value` is a bool."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be True or False, got {brief(value)}.")


def require_option(name: str, value, options: Collection[str]) -> str:
    """One of several names."""
    if not isinstance(value, str) or value not in options:
        raise ValueError(f"{name} must be one of {list(options)}, got {value!r}.")
    return value
