"""Numerics: dtypes of sums, means and casts without overflow, and the modes of JAX around them."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from zojax._warnings import warn


def promoting(fun: Callable) -> Callable:
    """`fun` under JAX's default promotion; stricter modes are for the caller's own functions."""

    @functools.wraps(fun)
    def call(*args, **kwargs):
        with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
            return fun(*args, **kwargs)

    return call


def marking_nan(fun: Callable) -> Callable:
    """`fun` without `jax_debug_nans`: it runs no loss, and NaN is a marker in its results."""

    @functools.wraps(fun)
    def call(*args, **kwargs):
        with jax.debug_nans(False):
            return fun(*args, **kwargs)

    return call


def float_dtype() -> jnp.dtype:
    """float64 under x64, else float32."""
    return jax.dtypes.canonicalize_dtype(float)


def warn_of_resolution(values, dtype=None) -> None:
    """Warns of host values that differ by less than a dtype resolves, by default JAX's floats."""
    if any(isinstance(x, jax.Array) for x in jax.tree.leaves(values)):  # rounded already, or traced
        return
    values = np.asarray(values)
    if values.dtype.kind not in "iuf":
        return
    finite = values[np.isfinite(values)]
    dtype = jnp.dtype(float_dtype() if dtype is None else dtype)
    close = 10 * np.finfo(dtype).eps * np.max(np.abs(finite), initial=0)
    if len(finite) > 1 and 0 < np.ptp(finite) < close:
        x64 = (
            ""
            if dtype == np.float64
            else ", or enable x64: jax.config.update('jax_enable_x64', True)"
        )
        warn(
            f"values near {finite[0]:g} differ by less than {dtype} resolves: subtract a constant in "
            f"fun{x64}."
        )


def accumulator_dtype(dtype) -> jnp.dtype:
    """float64 for float64, else float32: sums never run in less."""
    return jnp.dtype(jnp.float64 if dtype == jnp.float64 else jnp.float32)


def at_least(dtype, least) -> jnp.dtype:
    """The wider of two float dtypes; `least` may be None.

    >>> at_least(jnp.float16, jnp.float32), at_least(jnp.float64, jnp.float32), at_least(jnp.float16, None)
    (dtype('float32'), dtype('float64'), dtype('float16'))
    """
    is_wide = least is None or jnp.finfo(least).bits <= jnp.finfo(dtype).bits
    return jnp.dtype(dtype if is_wide else least)


def mean_of(table: jax.Array, valid: jax.Array, axis: int | None = None) -> jax.Array:
    """The mean over the valid rows of a table, of all columns or, with axis 0, of each; 0 without any.

    The sums cannot overflow: entries are scaled by a power of two, which rounds nothing.
    """
    share = 2.0 ** -table.size.bit_length()
    columns = table.shape[1] if axis is None else 1
    rows = lax.broadcast_in_dim(valid, table.shape, (0,))
    scaled = lax.select(
        rows, lax.mul(table, np.asarray(share, table.dtype)), lax.full_like(table, 0)
    )
    total = lax.reduce_sum(scaled, (0, 1) if axis is None else (axis,))
    count = lax.max(lax.reduce_sum(valid.astype(np.int32), (0,)), np.int32(1)).astype(table.dtype)
    return total / (share * columns * count)


def saturated(x: jax.Array, dtype) -> jax.Array:
    """Casts to a dtype; clips instead of overflowing if its range is less than float32's."""
    if is_narrow(dtype):
        most = float(jnp.finfo(dtype).max)
        x = jnp.clip(x, -most, most)
    return x.astype(dtype)


def is_narrow(dtype) -> bool:
    """Whether a float dtype has less range than float32."""
    return jnp.finfo(dtype).maxexp < jnp.finfo(jnp.float32).maxexp


def stochastically_rounded(x: jax.Array, dtype, uniform: jax.Array) -> jax.Array:
    """float32 `x` on the grid of a narrower dtype: one of its two neighbours there, with mean x.

    `uniform` has entries in [0, 1), multiples of 2^-24. The neighbours differ in the last bit that the
    dtype keeps: the carry of a random number below that bit chooses one.

    >>> x = jnp.full(4, 1 + 2.0**-9)
    >>> print(stochastically_rounded(x, jnp.bfloat16, jnp.array([0, 0.5, 0.7, 0.75])))
    [1.        1.        1.        1.0078125]
    """
    info = jnp.finfo(dtype)
    below = 23 - info.nmant  # bits of a float32 that the dtype lacks
    tiny, most = float(info.tiny), float(info.max)
    x = jnp.clip(x, -most, most)
    # Subnormal numbers have the spacing of the first normal ones.
    shift = jnp.where(jnp.abs(x) < tiny, jnp.copysign(jnp.float32(tiny), x), 0)
    bits = lax.bitcast_convert_type(x + shift, jnp.uint32)
    bits += (uniform * 2.0**below).astype(jnp.uint32)
    kept = lax.bitcast_convert_type(bits >> below << below, jnp.float32)
    return jnp.where(jnp.isfinite(x), kept - shift, x)
