"""Convolutions with a kernel of its own for each direction: matrix products with the taps of kernels.

JAX would run one convolution with a group for each direction, which is slow. The channels are the last
axis, and kernels are (*space, in, out).
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from zojax._barriers import stored_once
from zojax.implicit._batched import with_derivative

_UNROLLED = 32  # channels


def convolution(x: jax.Array, kernel: jax.Array, options: dict) -> jax.Array:
    """`lax.conv_general_dilated`, channels last."""
    *space, last = range(1, x.ndim)
    order = (0, last, *space)
    window = (last, last - 1, *(a - 1 for a in space))
    dims = lax.ConvDimensionNumbers(order, window, order)
    return lax.conv_general_dilated(x, kernel, dimension_numbers=dims, **options)


def convolve(x: jax.Array, kernel: jax.Array, options: dict, apart: int = 1) -> jax.Array:
    """The convolutions of `apart` groups of channels with one kernel, which `vmap` may batch.

    Returns:
      Their outputs, side by side: (batch, *space, apart * out).
    """

    @jax.custom_batching.custom_vmap
    def run(x, kernel):
        return _whole(x, kernel, options, apart)

    @run.def_vmap
    def _(size, batched, x, kernel):
        if batched[1]:
            evaluate = _by_taps if batched[0] and _has_taps(options) else _whole
            evaluate = partial(evaluate, options=options, apart=apart)
            return jax.vmap(evaluate, [0 if b else None for b in batched])(x, kernel), True
        # More examples of the same kernel, which an outer vmap may batch.
        merged = run(lax.collapse(x, 0, 2), kernel)
        return lax.reshape(merged, (size, merged.shape[0] // size, *merged.shape[1:])), True

    return with_derivative(run, partial(_whole, options=options, apart=apart))(x, kernel)


def _whole(x: jax.Array, kernel: jax.Array, options: dict, apart: int) -> jax.Array:
    """One convolution: the groups of channels join the batch."""
    if apart == 1:
        return convolution(x, kernel, options)
    batch, *_, channels = x.shape
    x = lax.reshape(x, (*x.shape[:-1], apart, channels // apart))
    y = convolution(lax.collapse(jnp.moveaxis(x, -2, 1), 0, 2), kernel, options)
    y = jnp.moveaxis(lax.reshape(y, (batch, apart, *y.shape[1:])), 1, -2)
    return lax.collapse(y, y.ndim - 2)


def _has_taps(options: dict) -> bool:
    """No groups, and no axis with a stride and a dilation of the input."""
    pairs = zip(options["window_strides"], options["lhs_dilation"], strict=True)
    return options["feature_group_count"] == 1 and all(1 in pair for pair in pairs)


def _by_taps(x: jax.Array, kernel: jax.Array, options: dict, apart: int) -> jax.Array:
    """One matrix product with all taps of the kernel; its columns are shifted and added.

    With fewer input channels than columns, the input is dilated and shifted, and each tap multiplies it.
    """
    *lead, channels = x.shape
    x = lax.reshape(x, (*lead, apart, channels // apart))
    ins, outs = kernel.shape[-2:]
    taps = lax.reshape(jnp.moveaxis(kernel, -2, 0), (ins, kernel.size // ins))
    times = partial(_times, precision=options["precision"], dtype=options["preferred_element_type"])
    # The groups of channels are one more axis, which no tap leaves.
    window, gaps = (*kernel.shape[:-2], 1), (*options["lhs_dilation"], 1)
    shifts_input = ins < taps.shape[1] and ins <= _UNROLLED
    y = _dilated(x, gaps) if shifts_input else times(x, taps)

    def of_tap(i: int, part: jax.Array) -> jax.Array:
        """The columns of a tap, from a shifted part of y."""
        first, last = i * outs, (i + 1) * outs
        if shifts_input:
            return times(part, lax.slice_in_dim(taps, first, last, axis=1))
        return lax.slice_in_dim(part, first, last, axis=part.ndim - 1)

    options = {
        "padding": (*options["padding"], (0, 0)),
        "lhs_dilation": (1,) * len(gaps) if shifts_input else gaps,
        "rhs_dilation": (*options["rhs_dilation"], 1),
        "window_strides": (*options["window_strides"], 1),
    }
    total = _shifted_sum(y, window, outs, of_tap, options)
    total = lax.collapse(total, total.ndim - 2)
    # A second step reads each of few numbers several times: XLA would add their taps each time.
    return stored_once(total, x) if total.size < x.size else total


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


def _dilated(x: jax.Array, gaps: Sequence[int]) -> jax.Array:
    """The input with zeros between the entries of its spatial axes."""
    inside = [(0, 0, 0), *((0, 0, gap - 1) for gap in gaps), (0, 0, 0)]
    return lax.pad(x, np.zeros((), x.dtype), inside)


def _shifted_sum(
    y: jax.Array,
    window: tuple[int, ...],
    channels: int,
    of_tap: Callable[[int, jax.Array], jax.Array],
    options: dict,
) -> jax.Array:
    """The sum of `of_tap(tap, part of y)` over the taps of a window, each part shifted to its place.

    With a dilation d of y, output q d + p reads the entries of y for one phase p: no zeros between them.
    """
    gaps, strides = options["lhs_dilation"], options["window_strides"]
    names = ("padding", "lhs_dilation", "rhs_dilation", "window_strides")
    places = zip(y.shape[1:-1], window, *(options[name] for name in names), strict=True)
    sizes, counts, pads, starts = zip(*(_places_of_taps(*axis) for axis in places), strict=True)
    y = lax.pad(y, np.zeros((), y.dtype), [(0, 0, 0), *((*p, 0) for p in pads), (0, 0, 0)])

    def shifted(i: int, start) -> jax.Array:
        stop = [b + (n - 1) * s + 1 for b, n, s in zip(start, counts, strides, strict=True)]
        part = lax.slice(y, (0, *start, 0), (len(y), *stop, y.shape[-1]), (1, *strides, 1))
        return of_tap(i, part)

    def of_phase(phase) -> jax.Array:
        at = [
            [start.get((p, t)) for start, p, t in zip(starts, phase, tap, strict=True)]
            for tap in np.ndindex(*window)
        ]
        terms = [shifted(i, start) for i, start in enumerate(at) if None not in start]
        return (
            sum(terms[1:], terms[0]) if terms else jnp.zeros((len(y), *counts, channels), y.dtype)
        )

    phases = [of_phase(p) for p in np.ndindex(*gaps)]
    if len(phases) == 1:
        return phases[0]
    total = jnp.stack(phases).reshape(*gaps, len(y), *counts, channels)
    n = len(gaps)
    order = [n, *(a for i in range(n) for a in (n + 1 + i, i)), 2 * n + 1]
    whole = [c * d for c, d in zip(counts, gaps, strict=True)]
    total = lax.reshape(lax.transpose(total, order), (len(y), *whole, channels))
    return lax.slice(total, [0] * (n + 2), (len(y), *sizes, channels))


def _places_of_taps(n: int, taps: int, pad, gap: int, dilation: int, stride: int):
    """Along one axis: outputs, outputs of a phase, padding, and the first place of (phase, tap)."""
    out = ((n - 1) * gap + sum(pad) - (taps - 1) * dilation) // stride + 1
    count = -(-out // gap)
    low = -(-pad[0] // gap)
    starts = {
        (phase, tap): (phase + tap * dilation - pad[0]) // gap + low
        for phase in range(gap)
        for tap in range(taps)
        if (phase + tap * dilation - pad[0]) % gap == 0
    }
    last = max(starts.values(), default=0) + (count - 1) * stride
    return out, count, (low, max(last + 1 - n - low, 0)), starts
