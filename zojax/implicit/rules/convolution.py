"""Convolutions with low-rank noise, one factor of the kernel after the other.

However the kernel is cut (3 x 3 x in | out, in | 3 x 3 x out, 3 x 3 | in x out), the noise is a convolution
with one factor, which gives `rank` channels, and then with the other. Depthwise kernels are materialised.

Here the channels are the last axis, and kernels are (*space, in, out). XLA's CPU backend computes in this
order, so both convolutions read one array.
"""

from functools import partial
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import JaxprEqn

from zojax._barriers import shared_in_turn
from zojax._contract import contract
from zojax._numerics import accumulator_dtype
from zojax.implicit import _compat
from zojax.implicit._perturbed import Perturbed
from zojax.implicit._registry import rule
from zojax.implicit._taps import convolution, convolve
from zojax.implicit._walk import Context
from zojax.implicit.rules.views import transposed

# Of a convolution along an axis that it leaves as it is.
_NEUTRAL: dict[str, Any] = {
    "window_strides": 1,
    "padding": (0, 0),
    "lhs_dilation": 1,
    "rhs_dilation": 1,
}


@rule("conv_general_dilated", deferred=True)
def conv(context: Context, eqn: JaxprEqn, lhs, rhs) -> list:
    p, out_type = eqn.params, _compat.output_type(eqn)
    spec, dtype = p["dimension_numbers"], accumulator_dtype(out_type.dtype)
    out_axis, in_axis, *space = spec.rhs_spec
    kernel, scales = _without_output_scales(rhs, out_axis)
    if kernel is None or p["batch_group_count"] > 1:
        return context.fallback(eqn, lhs, rhs)
    order = (*space, in_axis, out_axis)
    base = lax.transpose(kernel.base, order)
    kernel = cast(Perturbed, kernel.viewed(partial(transposed, order))).replace(base=base)
    lhs = context.plain(lhs, eqn)
    options = {name: p[name] for name in (*_NEUTRAL, "feature_group_count", "precision")}
    options["preferred_element_type"] = dtype
    if p["feature_group_count"] > 1 and kernel.shape[-2] == 1:
        # Depthwise: a small kernel, and no sums over channels that directions could share.
        kernel = kernel.replace(base=base.astype(dtype), is_activation=True)
        x = lax.transpose(lhs, _channels_last(spec.lhs_spec)).astype(dtype)
        result = convolution(x, context.plain(kernel, eqn, beside=[lhs]), options)
    else:
        context.kept(rhs, eqn)
        x = context.stored(lhs, _channels_last(spec.lhs_spec))
        noise = _in_two_steps(x.astype(dtype), kernel, options)
        if base.size <= x.size and not context.is_fixed(lhs):
            # The noise needs arrays of its own, the base needs the output.
            base = shared_in_turn(base, noise)
        result = convolution(x, base, options) + kernel.scale.astype(dtype) * noise
    for values in scales:
        result *= lax.broadcast_in_dim(values.astype(dtype), result.shape, [result.ndim - 1])
    places = np.argsort(_channels_last(spec.out_spec)).tolist()
    return [lax.transpose(result, places).astype(out_type.dtype)]


def _channels_last(spec) -> tuple[int, ...]:
    """The batch, the spatial axes, the channels."""
    batch, channels, *space = spec
    return (batch, *space, channels)


def _without_output_scales(kernel, out_axis: int) -> tuple[Perturbed | None, list[jax.Array]]:
    """A low-rank kernel, and the multipliers of its output channels. (None, []) if there is no rule."""
    if not isinstance(kernel, Perturbed) or not kernel.is_low_rank:
        return None, []
    inner = tuple(m for m in kernel.multipliers if m.axes != (out_axis,))
    scales = [m.values for m in kernel.multipliers if m.axes == (out_axis,)]
    return kernel.replace(multipliers=inner).folded(), scales


def _in_two_steps(x: jax.Array, kernel: Perturbed, options: dict) -> jax.Array:
    """The convolution with the noise: with one factor, then with the one of the output channels.

    The first gives `rank` channels: one set for all input channels if its factor has that axis, else
    one for each. A factor without the spatial axes mixes channels only.
    """
    *space, in_axis, out_axis = range(kernel.base.ndim)
    ins, outs = kernel.shape[-2:]
    groups, second = options["feature_group_count"], kernel.sides[out_axis]
    apart = groups * (ins if kernel.sides[in_axis] == second else 1)
    early = [kernel.sides[a] != second or kernel.shape[a] == 1 for a in space]
    if all(early) and apart > groups and outs < groups * ins:
        return _mixed_first(x, kernel, second, options)
    factor = _as_kernel(kernel, 1 - second, out_axis, x.dtype)
    thin = convolve(x, factor, _on_axes(options, early, 1), apart)
    if all(early):
        return _mixed(thin, kernel, second, groups)
    factor = _as_kernel(kernel, second, in_axis, x.dtype)
    return convolve(thin, factor, _on_axes(options, [not e for e in early], groups))


def _mixed_first(x: jax.Array, kernel: Perturbed, side: int, options: dict) -> jax.Array:
    """First the factor of all channels, then the spatial one: for fewer output than input channels."""
    groups, (ins, outs) = options["feature_group_count"], kernel.shape[-2:]
    factor = kernel.factors[side].astype(x.dtype)
    factor = lax.reshape(factor, (ins, groups, outs // groups, factor.shape[-1]))
    *lead, _ = x.shape
    x, axes = lax.reshape(x, (*lead, groups, ins)), range(len(lead))
    out = (*axes, "group", "out", "rank")
    x = contract(x, (*axes, "group", "in"), factor, ("in", "group", "out", "rank"), out)
    spatial = _as_kernel(kernel, 1 - side, kernel.base.ndim - 2, x.dtype)
    every = [True] * (kernel.base.ndim - 2)
    return convolve(lax.collapse(x, len(lead)), spatial, _on_axes(options, every, 1), outs)


def _mixed(thin: jax.Array, kernel: Perturbed, side: int, groups: int) -> jax.Array:
    """The product with a factor that has no spatial axes: over the rank and its input channels."""
    factor, outs = kernel.factors[side].astype(thin.dtype), kernel.shape[-1]
    *lead, channels = thin.shape
    depth = channels // groups  # input channels of a group, times the rank
    factor = jnp.moveaxis(
        lax.reshape(factor, (depth // factor.shape[-1], outs, factor.shape[-1])), 0, 1
    )
    factor = lax.reshape(factor, (groups, outs // groups, depth))
    thin = lax.reshape(thin, (*lead, groups, depth))
    axes, group = range(len(lead)), ["group"]
    if groups == 1:  # an axis of size 1 would make the product a batched one
        thin, factor, group = lax.squeeze(thin, [len(lead)]), factor[0], []
    names, out = (*axes, *group, "rank"), (*axes, *group, "out")
    return lax.reshape(contract(thin, names, factor, (*group, "out", "rank"), out), (*lead, outs))


def _as_kernel(kernel: Perturbed, side: int, axis: int, dtype) -> jax.Array:
    """One factor with all axes of the kernel, its rank merged into one of them."""
    factor = lax.expand_dims(kernel.factors[side].astype(dtype), kernel.axes(1 - side))
    return lax.collapse(jnp.moveaxis(factor, -1, axis + 1), axis, axis + 2)


def _on_axes(options: dict, chosen: list[bool], groups: int) -> dict:
    """The options of a convolution along some of the spatial axes."""
    restricted = {
        name: tuple(v if c else neutral for v, c in zip(options[name], chosen, strict=True))
        for name, neutral in _NEUTRAL.items()
    }
    return options | restricted | {"feature_group_count": groups}
