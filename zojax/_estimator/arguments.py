"""The loss of each direction: its slice of mapped arguments, its key, and its scalar value."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from zojax import noise
from zojax._numerics import accumulator_dtype
from zojax._scalars import traced_scalar
from zojax._trees import PyTree

# One axis for all arguments, one for each positional argument, or one for each keyword.
InAxes = int | Sequence[int | None] | Mapping[str, int | None] | None


class Losses(NamedTuple):
    """The loss, as each direction has it.

    Attributes:
      at: `at(point, i) -> (value, aux)`, the loss of direction i.
      differ: whether directions have data or keys of their own.
    """

    at: Callable[[PyTree, jax.Array], tuple[jax.Array, PyTree]]
    differ: bool

    def of(self, i: jax.Array) -> Callable[[PyTree], tuple[jax.Array, PyTree]]:
        """The loss of direction i, of the point alone."""
        return lambda point: self.at(point, i)


def losses(
    fun: Callable,
    key: jax.Array,
    args: tuple,
    kwargs: dict,
    *,
    indices: range,
    has_aux: bool,
    in_axes: InAxes,
    with_key: bool,
) -> Losses:
    """The losses of some directions from one function and its arguments."""
    axes = resolve_in_axes(in_axes, args, kwargs, len(indices))
    if with_key and "key" in kwargs:
        raise TypeError(
            "with_key=True gives the loss its key=, and so did the call; leave one of them out."
        )
    # Directions use the key itself and its first children. So losses take the last child.
    # As numbers: JAX's check of reuse takes a key that enters a loop's inner program for used up.
    numbers = jax.random.key_data(noise.fold_in(key, np.uint32(2**32 - 1))) if with_key else None

    def at(point, i):
        a, k = _slice_arguments(axes, args, kwargs, i - indices.start if indices.start else i)
        if with_key:
            own = jax.random.wrap_key_data(numbers, impl=jax.random.key_impl(key))
            k["key"] = jax.random.fold_in(own, i)
        return _value_and_aux(fun(point, *a, **k), has_aux)

    return Losses(at, axes is not None or with_key)


def resolve_in_axes(in_axes: InAxes, args: tuple, kwargs: dict, n: int) -> list[int | None] | None:
    """The mapped axis of every argument, keywords last, or None if no argument is mapped."""
    if in_axes is None:
        return None
    _require_axes(in_axes)
    axes: list[int | None]
    if isinstance(in_axes, (int, np.integer)):
        axes = [in_axes] * (len(args) + len(kwargs))
    elif isinstance(in_axes, Mapping):
        unknown = set(in_axes) - set(kwargs)
        if unknown:
            raise ValueError(
                f"in_axes names {sorted(unknown)}, which the loss was not given by keyword; "
                f"it was given {sorted(kwargs)}."
            )
        axes = [*[None] * len(args), *map(in_axes.get, kwargs)]
    else:
        in_axes = tuple(in_axes)
        if len(in_axes) != len(args) + 1 or in_axes[0] is not None:
            raise ValueError(
                "in_axes must have one entry per positional argument of the loss, None for the "
                f"parameters; got {in_axes} for {len(args) + 1} arguments."
            )
        axes = [*in_axes[1:], *[None] * len(kwargs)]
    _require_lengths(axes, [*args, *kwargs.values()], n)
    return axes


def _require_axes(in_axes: Any) -> None:
    if isinstance(in_axes, Mapping):
        axes = list(in_axes.values())
    else:
        axes = list(in_axes) if isinstance(in_axes, (list, tuple)) else [in_axes]
    for axis in axes:
        if axis is not None and (isinstance(axis, bool) or not isinstance(axis, (int, np.integer))):
            raise TypeError(
                f"in_axes must have one int or None for each argument, got {axis!r} in {in_axes!r}; "
                "an axis holds for all arrays of its argument."
            )


def _require_lengths(axes: list, arguments: list, n: int) -> None:
    """Raises ValueError unless every mapped axis has length n."""
    mapped = [pair for pair in zip(axes, arguments, strict=True) if pair[0] is not None]
    for axis, leaf in [(axis, leaf) for axis, arg in mapped for leaf in jax.tree.leaves(arg)]:
        shape = jnp.shape(leaf)
        if not -len(shape) <= axis < len(shape) or shape[axis] != n:
            raise ValueError(
                f"in_axes maps axis {axis} of an argument of shape {shape}; that axis must "
                f"have length num_directions = {n}."
            )


def _slice_arguments(axes: list | None, args: tuple, kwargs: dict, index) -> tuple[tuple, dict]:
    if axes is None:
        return args, dict(kwargs)

    def pick(axis, arg):
        if axis is None:
            return arg
        return jax.tree.map(lambda x: jnp.take(jnp.asarray(x), index, axis=axis), arg)

    picked = list(map(pick, axes, (*args, *kwargs.values())))
    return tuple(picked[: len(args)]), dict(zip(kwargs, picked[len(args) :], strict=True))


def _value_and_aux(out: Any, has_aux: bool) -> tuple[jax.Array, PyTree]:
    """What a loss returned: its scalar in float32 or better, and its auxiliary output."""
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
