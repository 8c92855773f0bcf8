"""One real number: the check of every loss, traced by JAX or called on the host."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from zojax._checks import brief

SEVERAL = "; for several objectives pass objectives=n"  # of a search


class NotScalarError(TypeError, ValueError):
    """A loss returned several numbers: a wrong type of function, or a value of a wrong shape."""


def traced_scalar(returned: Any, name: str = "the loss", remedy: str = "") -> jax.Array:
    """The array of shape () that a traced loss returned.

    Raises:
      TypeError: not an array or a number, or not real.
      NotScalarError: another shape.

    >>> traced_scalar(2)
    Array(2, dtype=int32, weak_type=True)
    """
    value = traced_real(returned, name, remedy)
    if value.shape:
        raise NotScalarError(
            f"{name} must return a scalar, got shape {value.shape}; take its mean or sum."
        )
    return value


def traced_real(returned: Any, name: str = "the loss", remedy: str = "") -> jax.Array:
    """The array of real numbers, of any shape, that a traced function returned."""
    is_number = isinstance(returned, (bool, int, float))
    if not is_number and not hasattr(returned, "dtype") and not hasattr(returned, "__jax_array__"):
        raise TypeError(f"{name} must return a scalar, got {_kind(returned)}{remedy}.")
    value = jnp.asarray(returned)
    if not any(jnp.issubdtype(value.dtype, kind) for kind in (np.floating, np.integer, np.bool_)):
        raise TypeError(f"{name} must return a real number, got dtype {value.dtype}.")
    return value


def traced_values(returned: Any, shape: tuple[int, ...], name: str = "fun") -> jax.Array:
    """The values of one or several objectives, () or (n,), that a traced function returned.

    Several may be an array or a tuple of scalars.

    Raises:
      TypeError: not real numbers.
      NotScalarError: another number of values.

    >>> traced_values((1, 2.5), (2,)).tolist()
    [1.0, 2.5]
    """
    if shape and isinstance(returned, (tuple, list)):
        returned = jnp.stack([traced_scalar(value, name) for value in returned])
    value = traced_real(returned, name)
    if value.size != math.prod(shape):
        raise _not_as(shape, value.shape, name)
    return value.reshape(shape)


def host_scalar(returned: Any, name: str = "fun") -> float:
    """The float of a number, or of an array with one entry, that a host function returned.

    Raises:
      TypeError: not a real number.
      NotScalarError: an array of another size.

    >>> host_scalar(np.array([2]))
    2.0
    """
    return _host_reals(returned, (), name, "").item()


def host_values(returned: Any, shape: tuple[int, ...], name: str = "fun") -> Any:
    """The values of one objective, a float, or of several, (n,), that a host function returned.

    Raises:
      TypeError: not real numbers.
      NotScalarError: another number of values.

    >>> host_values((1, 2.5), (2,))
    array([1. , 2.5])
    """
    values = _host_reals(returned, shape, name)
    return values.reshape(shape) if shape else values.item()


def is_finite(value: Any) -> bool:
    """Whether a value of one objective, or all values of several, are finite."""
    return math.isfinite(value) if isinstance(value, float) else bool(np.isfinite(value).all())


def _host_reals(returned, shape: tuple[int, ...], name: str, remedy: str = SEVERAL) -> np.ndarray:
    try:
        value = np.asarray(returned)
        # NumPy would convert None, complex numbers and strings to floats.
        is_real = returned is not None and value.dtype.kind not in "cSU"
        number = value.astype(float) if is_real else None
    except (TypeError, ValueError):
        number = None
    if number is None:
        kind = f"{shape[0]} real numbers" if shape else "a real number"
        raise TypeError(f"{name} must return {kind}, got {brief(returned)}.")
    if number.size != math.prod(shape):
        raise _not_as(shape, number.shape, name, remedy)
    return number


def _not_as(
    wanted: tuple[int, ...], found: tuple[int, ...], name: str, remedy: str = SEVERAL
) -> NotScalarError:
    if wanted:
        what = f"{wanted[0]} values, one per objective"
        return NotScalarError(f"{name} must return {what}, got shape {found}.")
    return NotScalarError(f"{name} must return a scalar, got shape {found}{remedy}.")


def _kind(returned: Any) -> str:
    return "None" if returned is None else f"a {type(returned).__name__}"
