"""Convolutions with a few output channels: the low-rank part of a perturbed kernel."""

import math

import jax
import numpy as np
from jax import lax

_UNROLLED = 32  # channels


def convolve(lhs: jax.Array, kernel: jax.Array, options: dict) -> jax.Array:
    """`lax.conv_general_dilated(lhs, kernel, **options)`, for kernels that may be batched by `vmap`.

    With a kernel and examples for each direction, JAX would make it one convolution of as many groups,
    which is slow: one matrix product with all taps of the kernel, whose results are then moved and added,
    takes its place.
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


def _merge(x, axis):
    """The leading axis made part of another."""
    x = lax.transpose(x, [*range(1, axis + 1), 0, *range(axis + 1, x.ndim)])
    return lax.reshape(
        x, (*x.shape[:axis], x.shape[axis] * x.shape[axis + 1], *x.shape[axis + 2 :])
    )


def _divide(x, axis, size):
    """Undoes `_merge`."""
    shape = (*x.shape[:axis], size, x.shape[axis] // size, *x.shape[axis + 1 :])
    x = lax.reshape(x, shape)
    return lax.transpose(x, [axis, *(i for i in range(x.ndim) if i != axis)])


def _times(x, taps, precision, dtype):
    """The product of (..., c) and (c, taps); of few channels it is written out, a fused sum: a product for
    each direction of so little depth is stored in another order than the taps are read in."""
    if len(taps) > _UNROLLED:
        dims = (((x.ndim - 1,), (0,)), ((), ()))
        return lax.dot_general(x, taps, dims, precision=precision, preferred_element_type=dtype)
    shape = (*x.shape[:-1], taps.shape[1])
    return sum(
        lax.broadcast_in_dim(x[..., i], shape, range(x.ndim - 1))
        * lax.broadcast_in_dim(taps[i], shape, (x.ndim - 1,))
        for i in range(len(taps))
    )


def _by_taps(
    lhs, kernel, *, window_strides, padding, rhs_dilation, dimension_numbers, precision, **rest
):
    spec = dimension_numbers
    x = lax.transpose(lhs, (spec.lhs_spec[0], *spec.lhs_spec[2:], spec.lhs_spec[1]))
    k = lax.transpose(kernel, (spec.rhs_spec[1], *spec.rhs_spec[2:], spec.rhs_spec[0]))
    window, channels = k.shape[1:-1], k.shape[-1]
    taps = lax.reshape(k, (k.shape[0], math.prod(window) * channels))
    y = _times(x, taps, precision, rest["preferred_element_type"])
    y = lax.pad(y, np.zeros((), y.dtype), [(0, 0, 0), *((*p, 0) for p in padding), (0, 0, 0)])
    reach = [(n - 1) * d for n, d in zip(window, rhs_dilation, strict=True)]
    sizes = y.shape[1:-1]
    outs = [(n - r - 1) // s + 1 for n, r, s in zip(sizes, reach, window_strides, strict=True)]
    total = 0
    for i, tap in enumerate(np.ndindex(*window)):
        start = [t * d for t, d in zip(tap, rhs_dilation, strict=True)]
        stop = [b + (n - 1) * s + 1 for b, n, s in zip(start, outs, window_strides, strict=True)]
        total += lax.slice(
            y,
            (0, *start, i * channels),
            (len(y), *stop, (i + 1) * channels),
            (1, *window_strides, 1),
        )
    order = (spec.out_spec[0], *spec.out_spec[2:], spec.out_spec[1])
    return lax.transpose(total, np.argsort(order).tolist())
