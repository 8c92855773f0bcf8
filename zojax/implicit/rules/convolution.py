"""Convolutions with low-rank noise, one factor of the kernel after the other.

However the kernel is cut (3 x 3 x in | out, in | 3 x 3 x out, 3 x 3 | in x out), the noise is a convolution
with one factor, which gives `rank` channels, and then with the other.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
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


@rule("conv_general_dilated", deferred=True)
def conv(context: Context, eqn: JaxprEqn, lhs, rhs) -> list:
    spec = eqn.params["dimension_numbers"]
    kernel, scales = _without_output_scales(rhs, spec.rhs_spec[0])
    if kernel is None or eqn.params["batch_group_count"] > 1:
        return context.fallback(eqn, lhs, rhs)
    lhs = context.stored(context.plain(lhs, eqn))
    dtype = accumulator_dtype(_compat.output_type(eqn).dtype)
    options = eqn.params | {"preferred_element_type": dtype}
    base = lax.conv_general_dilated(lhs, kernel.base, **options)
    context.kept(rhs, eqn)
    result = base + kernel.scale.astype(dtype) * _in_two_steps(lhs.astype(dtype), kernel, options)
    for values in scales:
        result *= lax.broadcast_in_dim(values.astype(dtype), result.shape, [spec.out_spec[1]])
    return [result.astype(_compat.output_type(eqn).dtype)]


def _without_output_scales(kernel, out_axis: int) -> tuple[Perturbed | None, list[jax.Array]]:
    """A low-rank kernel, and the multipliers of its output channels. (None, []) if there is no rule."""
    if not isinstance(kernel, Perturbed) or not kernel.is_low_rank:
        return None, []
    inner = tuple(m for m in kernel.multipliers if m.axes != (out_axis,))
    scales = [m.values for m in kernel.multipliers if m.axes == (out_axis,)]
    return kernel.replace(multipliers=inner).folded(), scales


def _in_two_steps(lhs: jax.Array, kernel: Perturbed, options: dict) -> jax.Array:
    """The convolution with the noise: with one factor, then with the one of the output channels.

    The first gives `rank` channels: one set for all input channels if its factor has that axis, else
    one for each. A factor without the spatial axes mixes channels only.
    """
    spec, groups = options["dimension_numbers"], options["feature_group_count"]
    out_axis, in_axis, *space = spec.rhs_spec
    second = kernel.sides[out_axis]
    first = 1 - second
    channels = kernel.shape[in_axis]
    apart = groups * (channels if kernel.sides[in_axis] == second else 1)
    early = [kernel.sides[a] == first or kernel.shape[a] == 1 for a in space]
    if all(early) and apart > groups and kernel.shape[out_axis] < groups * channels:
        return _mixed_first(lhs, kernel, second, options)
    x = _channels_to_batch(lhs, spec.lhs_spec, apart)
    thin = convolve(x, _as_kernel(kernel, first, out_axis, lhs.dtype), _on_axes(options, early, 1))
    thin = _batch_to_channels(
        thin, spec.out_spec, apart
    )  # in the place of the channels: apart, rank
    if all(early):
        return _mixed(thin, kernel, second, spec, groups)
    late = [not e for e in early]
    numbers = lax.ConvDimensionNumbers(spec.out_spec, spec.rhs_spec, spec.out_spec)
    options = _on_axes(options, late, groups) | {"dimension_numbers": numbers}
    feature = spec.out_spec[1]
    thin = lax.collapse(thin, feature, feature + 2)
    return convolve(thin, _as_kernel(kernel, second, in_axis, lhs.dtype), options)


def _mixed_first(lhs: jax.Array, kernel: Perturbed, side: int, options: dict) -> jax.Array:
    """First the factor of all channels, then the spatial one: for fewer output than input channels."""
    spec, groups = options["dimension_numbers"], options["feature_group_count"]
    out_axis, in_axis, *_ = spec.rhs_spec
    feature, outs = spec.lhs_spec[1], kernel.shape[out_axis]
    ins = kernel.shape[in_axis]
    factor = kernel.factors[side].astype(lhs.dtype)
    own = [a for a in kernel.axes(side) if a in (out_axis, in_axis)]
    factor = lax.reshape(factor, [*(kernel.shape[a] for a in own), factor.shape[-1]])
    factor = jnp.swapaxes(factor, 0, 1) if own[0] == out_axis else factor
    factor = lax.reshape(factor, (ins, groups, outs // groups, factor.shape[-1]))
    before, after = tuple(range(feature)), tuple(range(feature + 1, lhs.ndim))
    x = lax.reshape(lhs, (*lhs.shape[:feature], groups, ins, *lhs.shape[feature + 1 :]))
    names = (*before, "group", "in", *after)
    out = (*before, "group", "out", "rank", *after)
    x = contract(x, names, factor, ("in", "group", "out", "rank"), out)
    x = lax.collapse(x, feature, feature + 3)
    x = _channels_to_batch(x, spec.lhs_spec, outs)
    every = [True] * (lhs.ndim - 2)
    spatial = _as_kernel(kernel, 1 - side, in_axis, lhs.dtype)
    result = convolve(x, spatial, _on_axes(options, every, 1))
    result = _batch_to_channels(result, spec.out_spec, outs)
    return lax.squeeze(result, [spec.out_spec[1] + 1])


def _as_kernel(kernel: Perturbed, side: int, axis: int, dtype) -> jax.Array:
    """One factor with all axes of the kernel, its rank merged into one of them."""
    factor = lax.expand_dims(kernel.factors[side].astype(dtype), kernel.axes(1 - side))
    return lax.collapse(jnp.moveaxis(factor, -1, axis + 1), axis, axis + 2)


def _on_axes(options: dict, chosen: list[bool], groups: int) -> dict:
    """The options of a convolution along some of the spatial axes."""
    neutral = {"window_strides": 1, "padding": (0, 0), "lhs_dilation": 1, "rhs_dilation": 1}
    restricted = {
        name: tuple(v if c else value for v, c in zip(options[name], chosen, strict=True))
        for name, value in neutral.items()
    }
    return options | restricted | {"feature_group_count": groups}


def _channels_to_batch(x: jax.Array, spec, count: int) -> jax.Array:
    """Moves `count` groups of channels to the batch, as its minor part."""
    if count == 1:
        return x
    batch, feature = spec[0], spec[1]
    shape = (*x.shape[:feature], count, x.shape[feature] // count, *x.shape[feature + 1 :])
    x = jnp.moveaxis(lax.reshape(x, shape), feature, batch + 1)
    return lax.collapse(x, batch, batch + 2)


def _batch_to_channels(x: jax.Array, spec, count: int) -> jax.Array:
    """Undoes `_channels_to_batch`, with the groups as an axis of their own before the channels."""
    batch, feature = spec[0], spec[1]
    shape = (*x.shape[:batch], x.shape[batch] // count, count, *x.shape[batch + 1 :])
    return jnp.moveaxis(lax.reshape(x, shape), batch + 1, feature)


def _mixed(thin: jax.Array, kernel: Perturbed, side: int, spec, groups: int) -> jax.Array:
    """The product with a factor that has no spatial axes: over the rank and its input channels."""
    out_axis, in_axis, *_ = spec.rhs_spec
    feature, outs = spec.out_spec[1], kernel.shape[out_axis]
    apart, rank = thin.shape[feature : feature + 2]
    ins = apart // groups
    before, after = tuple(range(feature)), tuple(range(feature + 2, thin.ndim))
    shape = thin.shape[:feature], thin.shape[feature + 2 :]
    thin = lax.reshape(thin, (*shape[0], groups, ins * rank, *shape[1]))
    factor = kernel.factors[side].astype(thin.dtype)
    own = [a for a in kernel.axes(side) if a in (out_axis, in_axis)]
    factor = lax.reshape(factor, [*(kernel.shape[a] for a in own), rank])
    if len(own) == 1:
        factor = factor[None]
    elif own[0] == out_axis:
        factor = jnp.swapaxes(factor, 0, 1)
    factor = lax.reshape(jnp.moveaxis(factor, 0, 1), (groups, outs // groups, ins * rank))
    group = ["group"]
    if groups == 1:  # an axis of size 1 would make the product a batched one
        thin, factor, group = lax.squeeze(thin, [feature]), factor[0], []
    names = (*before, *group, "rank", *after)
    out = (*before, *group, "out", *after)
    result = contract(thin, names, factor, (*group, "out", "rank"), out)
    return lax.reshape(result, (*shape[0], outs, *shape[1]))


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
            both = batched[0] and _has_taps(options)
            fn = _by_taps if both else lax.conv_general_dilated
            axes = tuple(0 if b else None for b in batched)
            return jax.vmap(lambda x, k: fn(x, k, **options), axes)(lhs, kernel), True
        # More examples of the same kernel, which an outer vmap may batch.
        merged = run(_merge(lhs, spec.lhs_spec[0]), kernel)
        return _divide(merged, spec.out_spec[0], size), True

    return run(lhs, kernel)


def _has_taps(options: dict) -> bool:
    """No groups, and no axis with a stride and a dilation of the input."""
    pairs = zip(options["window_strides"], options["lhs_dilation"], strict=True)
    return options["feature_group_count"] == 1 and all(1 in pair for pair in pairs)


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
    """One matrix product with all taps of the kernel; its columns are shifted and added.

    With fewer input channels than columns, the input is dilated and shifted, and each tap multiplies it.
    """
    spec = options["dimension_numbers"]
    x = lax.transpose(lhs, (spec.lhs_spec[0], *spec.lhs_spec[2:], spec.lhs_spec[1]))
    k = lax.transpose(kernel, (spec.rhs_spec[1], *spec.rhs_spec[2:], spec.rhs_spec[0]))
    window, outs = k.shape[1:-1], k.shape[-1]
    taps = lax.reshape(k, (k.shape[0], math.prod(k.shape[1:])))
    times = partial(_times, precision=options["precision"], dtype=options["preferred_element_type"])
    shifts_input = k.shape[0] < taps.shape[1] and k.shape[0] <= _UNROLLED
    y = _dilated(x, options["lhs_dilation"]) if shifts_input else times(x, taps)
    if shifts_input:
        options |= {"lhs_dilation": (1,) * len(window)}

    def of_tap(i: int, part: jax.Array) -> jax.Array:
        """The columns of a tap, from a shifted part of y."""
        first, last = i * outs, (i + 1) * outs
        if shifts_input:
            return times(part, lax.slice_in_dim(taps, first, last, axis=1))
        return lax.slice_in_dim(part, first, last, axis=part.ndim - 1)

    total = _shifted_sum(y, window, outs, of_tap, options)
    order = (spec.out_spec[0], *spec.out_spec[2:], spec.out_spec[1])
    return lax.transpose(total, np.argsort(order).tolist())


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
