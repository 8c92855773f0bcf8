"""The loss of each direction: its slice of mapped arguments, its key, and a value that is a scalar."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from zojax import noise
from zojax._numerics import accumulator_dtype
from zojax._scalars import traced_scalar
from zojax._trees import PyTree


class Losses(NamedTuple):
    """Attributes:
    at: `at(point, i) -> (value, aux)`, the loss as direction i has it.
    differ: whether directions have data or keys of their own.
    """

    at: Callable[[PyTree, jax.Array], tuple[jax.Array, PyTree]]
    differ: bool


def losses(
    fun, key, args: tuple, kwargs: dict, *, n: int, has_aux: bool, in_axes: Any, with_key: bool
) -> Losses:
    """The losses of n directions from one function and its arguments."""
    axes = resolve_in_axes(in_axes, args, kwargs, n)
    if with_key and "key" in kwargs:
        raise TypeError(
            "with_key=True gives the loss its key=, and so did the call; leave one of them out."
        )
    # The noise has the key itself, of which directions use the first children; the losses the last.
    loss_key = noise.fold_in(key, np.uint32(2**32 - 1)) if with_key else None

    def at(point, i):
        a, k = _slice_arguments(axes, args, kwargs, i)
        if with_key:
            k["key"] = jax.random.fold_in(loss_key, i)
        return _scalar_loss(fun(point, *a, **k), has_aux)

    return Losses(at, axes is not None or with_key)


def resolve_in_axes(in_axes, args: tuple, kwargs: dict, n: int):
    """None, or the axis (or None) of every argument: a tuple for args and a dict for kwargs."""
    if in_axes is None:
        return None
    _require_axes(in_axes)
    if isinstance(in_axes, (int, np.integer)):
        axes = (in_axes,) * len(args), dict.fromkeys(kwargs, in_axes)
    elif isinstance(in_axes, dict):
        unknown = set(in_axes) - set(kwargs)
        if unknown:
            raise ValueError(
                f"in_axes names {sorted(unknown)}, which the loss was not given by keyword; "
                f"it was given {sorted(kwargs)}."
            )
        axes = (None,) * len(args), {name: in_axes.get(name) for name in kwargs}
    else:
        in_axes = tuple(in_axes)
        if len(in_axes) != len(args) + 1 or in_axes[0] is not None:
            raise ValueError(
                "in_axes must have one entry per positional argument of the loss, None for the "
                f"parameters; got {in_axes} for {len(args) + 1} arguments."
            )
        axes = in_axes[1:], dict.fromkeys(kwargs)
    pairs = [*zip(axes[0], args, strict=True), *((axes[1][k], kwargs[k]) for k in kwargs)]
    for axis, leaf in [
        (axis, x) for axis, arg in pairs if axis is not None for x in jax.tree.leaves(arg)
    ]:
        rank = jnp.ndim(leaf)
        if not -rank <= axis < rank or jnp.shape(leaf)[axis] != n:
            raise ValueError(
                f"in_axes maps axis {axis} of an argument of shape {jnp.shape(leaf)}; that axis must "
                f"have length num_directions = {n}."
            )
    return axes


def _require_axes(in_axes) -> None:
    if isinstance(in_axes, dict):
        axes = in_axes.values()
    else:
        axes = in_axes if isinstance(in_axes, (list, tuple)) else [in_axes]
    for axis in axes:
        if axis is not None and (isinstance(axis, bool) or not isinstance(axis, (int, np.integer))):
            raise TypeError(
                f"in_axes must have one int or None for each argument, got {axis!r} in {in_axes!r}; "
                "an axis holds for all arrays of its argument."
            )


def _slice_arguments(axes, args: tuple, kwargs: dict, index):
    if axes is None:
        return args, dict(kwargs)

    def pick(axis, arg):
        if axis is None:
            return arg
        return jax.tree.map(lambda x: jnp.take(jnp.asarray(x), index, axis=axis), arg)

    positional = tuple(pick(axis, arg) for axis, arg in zip(axes[0], args, strict=True))
    return positional, {name: pick(axes[1][name], arg) for name, arg in kwargs.items()}


def _scalar_loss(out, has_aux: bool) -> tuple[jax.Array, PyTree]:
    if has_aux and not (isinstance(out, tuple) and len(out) == 2):
        got = f"an array of shape {jnp.shape(out)}" if hasattr(out, "shape") else type(out).__name__
        raise TypeError(
            f"with has_aux=True the loss must return (value, aux), got {got}; "
            "leave has_aux out for a loss that returns its value alone."
        )
    value, aux = out if has_aux else (out, ())
    value = traced_scalar(
        value,
        remedy="; if it returns (value, aux), pass has_aux=True to value_and_grad or estimate; "
        "zeroth_order and minimize take the value alone",
    )
    return value.astype(accumulator_dtype(value.dtype)), aux
