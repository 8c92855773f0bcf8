"""Convolutions with low-rank noise: `rank` output channels, then the factor of the output channels."""

import math
from typing import cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import JaxprEqn

from zojax._contract import contract
from zojax._numerics import accumulator_dtype
from zojax.implicit import _compat
from zojax.implicit._perturbed import Perturbed
from zojax.implicit._registry import rule
from zojax.implicit._walk import Context

_UNROLLED = 32  # channels


@rule("conv_general_dilated")
def conv(context: Context, eqn: JaxprEqn, lhs, rhs) -> list:
    spec = eqn.params["dimension_numbers"]
    out_axis = spec.rhs_spec[0]
    if not _serves(eqn, rhs, out_axis):
        return context.fallback(eqn, lhs, rhs)
    lhs = context.stored(context.plain(lhs, eqn))
    dtype = accumulator_dtype(_compat.output_type(eqn).dtype)
    side = rhs.sides[out_axis]
    kernel = jnp.moveaxis(rhs.factors[1 - side].astype(dtype), -1, out_axis)
    options = eqn.params | {"preferred_element_type": dtype}
    base = lax.conv_general_dilated(lhs, rhs.base, **options)
    thin = convolve(lhs.astype(dtype), kernel, options)
    out = tuple(range(base.ndim))
    feature = spec.out_spec[1]
    names = tuple("rank" if i == feature else i for i in out)
    factor = rhs.factors[side].astype(dtype)
    noise = contract(rhs.scale.astype(dtype) * thin, names, factor, (feature, "rank"), out)
    context.kept(rhs, eqn)
    return [(base + noise).astype(_compat.output_type(eqn).dtype)]


def _serves(eqn: JaxprEqn, kernel, out_axis: int) -> bool:
    """Whether one factor of the kernel has the output channels, and nothing else."""
    if not isinstance(kernel, Perturbed) or not kernel.is_low_rank:
        return False
    ungrouped = eqn.params["feature_group_count"] == eqn.params["batch_group_count"] == 1
    return ungrouped and (out_axis,) in (kernel.axes(0), kernel.axes(1))


def convolve(lhs: jax.Array, kernel: jax.Array, options: dict) -> jax.Array:
    """`lax.conv_general_dilated(lhs, kernel, **options)`, for kernels that may be batched by `vmap`.

    With a kernel and examples for each direction, JAX would run one convolution with a group for each
    direction, which is slow. `_by_taps` runs one matrix product instead.
    """

    @jax.custom_batching.custom_vmap
    def run(lhs, kernel):
        return lax.conv_general_dilated(lhs, kernel, **options)

    @run.def_vmap
    def _(size, batched, lhs, kernel):
        spec = options["dimension_numbers"]
        if batched[1]:
            both = batched[0] and all(d == 1 for d in options["lhs_dilation"])
            fn = _by_taps if both else lax.conv_general_dilated
            axes = tuple(0 if b else None for b in batched)
            return jax.vmap(lambda x, k: fn(x, k, **options), axes)(lhs, kernel), True
        # More examples of the same kernel, which an outer vmap may batch.
        merged = run(_merge(lhs, spec.lhs_spec[0]), kernel)
        return _divide(merged, spec.out_spec[0], size), True

    return run(lhs, kernel)


def _merge(x: jax.Array, axis: int) -> jax.Array:
    """Merges the leading axis into another."""
    x = lax.transpose(x, [*range(1, axis + 1), 0, *range(axis + 1, x.ndim)])
    return lax.collapse(x, axis, axis + 2)


def _divide(x: jax.Array, axis: int, size: int) -> jax.Array:
    """Undoes `_merge`."""
    shape = (*x.shape[:axis], size, x.shape[axis] // size, *x.shape[axis + 1 :])
    x = lax.reshape(x, shape)
    return lax.transpose(x, [axis, *(i for i in range(x.ndim) if i != axis)])


def _times(x: jax.Array, taps: jax.Array, precision, dtype) -> jax.Array:
    """The product of (..., c) and (c, taps). With few channels it is a fused sum of products: XLA would
    store so thin a matrix product in another order than the taps are read in."""
    if len(taps) > _UNROLLED:
        dims = (((x.ndim - 1,), (0,)), ((), ()))
        return lax.dot_general(x, taps, dims, precision=precision, preferred_element_type=dtype)
    shape = (*x.shape[:-1], taps.shape[1])
    terms = (
        lax.broadcast_in_dim(x[..., i], shape, range(x.ndim - 1))
        * lax.broadcast_in_dim(taps[i], shape, (x.ndim - 1,))
        for i in range(len(taps))
    )
    return cast(jax.Array, sum(terms))


def _by_taps(lhs: jax.Array, kernel: jax.Array, **options) -> jax.Array:
    """One matrix product with all taps of the kernel; its columns are shifted and added."""
    spec = options["dimension_numbers"]
    x = lax.transpose(lhs, (spec.lhs_spec[0], *spec.lhs_spec[2:], spec.lhs_spec[1]))
    k = lax.transpose(kernel, (spec.rhs_spec[1], *spec.rhs_spec[2:], spec.rhs_spec[0]))
    taps = lax.reshape(k, (k.shape[0], math.prod(k.shape[1:])))
    y = _times(x, taps, options["precision"], options["preferred_element_type"])
    beside = [(0, 0, 0), *((*p, 0) for p in options["padding"]), (0, 0, 0)]
    y = lax.pad(y, np.zeros((), y.dtype), beside)
    total = _shifted_sum(y, k.shape[1:-1], options["window_strides"], options["rhs_dilation"])
    order = (spec.out_spec[0], *spec.out_spec[2:], spec.out_spec[1])
    return lax.transpose(total, np.argsort(order).tolist())


def _shifted_sum(y: jax.Array, window, strides, dilation) -> jax.Array:
    """The sum over the taps of a window of their columns of y, each shifted to its place."""
    channels = y.shape[-1] // math.prod(window)
    reach = [(n - 1) * d for n, d in zip(window, dilation, strict=True)]
    sizes = y.shape[1:-1]
    outs = [(n - r - 1) // s + 1 for n, r, s in zip(sizes, reach, strides, strict=True)]

    def shifted(i: int, tap) -> jax.Array:
        start = [t * d for t, d in zip(tap, dilation, strict=True)]
        stop = [b + (n - 1) * s + 1 for b, n, s in zip(start, outs, strides, strict=True)]
        first, last = (0, *start, i * channels), (len(y), *stop, (i + 1) * channels)
        return lax.slice(y, first, last, (1, *strides, 1))

    return cast(jax.Array, sum(shifted(i, tap) for i, tap in enumerate(np.ndindex(*window))))
