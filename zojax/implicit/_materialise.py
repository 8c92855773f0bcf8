"""The entries of a perturbed array: base + scale * noise, made where they are read."""

from collections.abc import Sequence
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from zojax import _barriers
from zojax import noise as noises
from zojax._numerics import accumulator_dtype
from zojax.implicit._perturbed import Perturbed
from zojax.noise import Range


def materialise(x: Perturbed) -> jax.Array:
    """The array itself, computed in at least float32 and rounded once.

    The left axes come first in the sum, as in the noise, and a transpose follows. XLA folds a transpose
    of the sum into the product that reads it.
    """
    if x.is_long_vector:
        return _long_vector(x)
    dtype = accumulator_dtype(x.base.dtype)
    order = x.axes(0) + x.axes(1)
    noise = _noise(x, order, dtype)
    base = lax.transpose(x.base, order)
    if x.bits is not None:
        moved = _moved(x, base, noise)
        return lax.transpose(moved, tuple(np.argsort(order).tolist()))
    total = base.astype(dtype) + x.scale.astype(dtype) * noise
    total = lax.square(total) if x.is_squared else total
    for multiplier in x.multipliers:
        total *= lax.transpose(multiplier.over(base.ndim).astype(dtype), order)
    total = total.astype(base.dtype)
    # XLA's CPU matrix kernels absorb sums but no bit operations. Of a sum they would read three arrays,
    # base, scale and noise.
    if not x.is_vector:
        total = _barriers.waiting(total, x.scale)
    total = lax.transpose(total, tuple(np.argsort(order).tolist()))
    return total if x.flat is None else lax.reshape(total, x.shape)


def _moved(x: Perturbed, base: jax.Array, noise: jax.Array) -> jax.Array:
    """Integers, each moved by a rounded scale * noise that keeps it in its range."""
    bits = cast(int, x.bits)
    scale = x.scale.astype(noise.dtype)
    moves = [jnp.round(scale * digit) for digit in noises.digits_of(noise, bits)]
    entries = noises.entries_of(base, bits)
    return _barriers.made_once(
        noises.bytes_of(noises.moved(entries, moves, base.dtype), base.dtype)
    )


def _noise(x: Perturbed, order: Sequence[int], dtype) -> jax.Array:
    noise = None
    if x.join is not None:
        noise = x.join(*(_cast(f, dtype) for f in x.factors)).astype(dtype)
    if x.whole is not None:
        whole = lax.transpose(x.whole, order).astype(dtype)
        noise = whole if noise is None else whole * noise
    if noise is None:
        raise ValueError(f"noise of {x.name} has neither factors nor values.")
    return _barriers.made_once(noise) if x.is_vector and x.join is not None else noise


def _long_vector(x: Perturbed) -> jax.Array:
    dtype = accumulator_dtype(x.base.dtype)
    noise = _noise_of_even_length(x).astype(dtype)
    total = x.base.astype(dtype) + x.scale.astype(dtype) * noise
    return _barriers.settle_unless_cheap(total.astype(x.base.dtype))


def _noise_of_even_length(x: Perturbed) -> jax.Array:
    """XLA's CPU backend vectorises no long loop of odd length. An odd vector gets one entry more,
    which `settle` keeps: XLA does not compute entries that a slice drops."""
    rows, columns = x.factors
    (n,) = columns.shape
    join: Any = x.join
    if n % 2 == 0:
        return join(rows, columns)
    return _barriers.settle(join(rows, Range(columns.start, (n + 1,))))[:n]


def _cast(factor, dtype):
    """Casts values; row and column numbers stay integers."""
    is_value = hasattr(factor, "dtype") and jnp.issubdtype(factor.dtype, jnp.floating)
    return factor.astype(dtype) if is_value else factor
