"""A direction on a part of the parameters: some leaves, or some entries of leaves."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from zojax import noise
from zojax._checks import brief, require_kind
from zojax._direction import Direction
from zojax._numerics import accumulator_dtype
from zojax._sharding import full_like
from zojax._trees import PyTree


def masked(
    direction: Direction, mask: PyTree | Callable[[tuple, jax.ShapeDtypeStruct], bool]
) -> Direction:
    """`direction` over the parameters selected by `mask`; all others stay as they are.

    A leaf outside the mask costs nothing: no noise, no update. An array mask multiplies the noise of its
    leaf, so E zz' = I holds over the selected entries.

    Args:
      direction: any direction.
      mask: a predicate `mask(path, leaf) -> bool` on the key path (`jax.tree_util.KeyPath`) and the
        leaf's `jax.ShapeDtypeStruct`; or a pytree of the parameters' structure with a bool, or a
        bool array of the leaf's shape, for each leaf (anything for integer and other such leaves).

    Raises:
      ValueError: if nothing is selected, or a mask's structure or shape does not fit.
      TypeError: if a predicate returns anything but a bool.

    >>> import jax, jax.numpy as jnp, zojax
    >>> only_w = lambda path, leaf: jax.tree_util.keystr(path) == "['w']"
    >>> direction = zojax.directions.masked(zojax.directions.rademacher(), only_w)
    >>> loss = lambda p: jnp.sum(p["w"] ** 2) + jnp.sum(p["b"] ** 2)
    >>> grad = zojax.grad(loss, zojax.estimator(direction))
    >>> grad(0, {"w": jnp.ones(2), "b": jnp.ones(2)})["b"]
    Array([0., 0.], dtype=float32)
    """
    require_kind("direction", direction, Direction)
    if not callable(mask) and not any(map(_may_select, jax.tree.leaves(mask))):
        raise ValueError("mask selects nothing; there is nothing to perturb.")
    parts = _frame, _draw, _combine, _max_directions
    frame, draw, combine, most = (partial(part, direction, mask) for part in parts)
    return Direction(frame, draw, combine, most, direction.shares_products)


def _resolve(mask, like: PyTree) -> PyTree:
    """A bool or a bool array for every leaf of `like`."""
    if callable(mask):
        chosen = jax.tree_util.tree_map_with_path(
            lambda path, leaf: _answer(path, mask(path, leaf)), like
        )
    else:
        chosen = jax.tree.map(_checked, like, _fit(mask, like))
    if not any(m is not False for m in jax.tree.leaves(chosen)):
        raise ValueError("mask selects no float leaf; there is nothing to perturb.")
    return chosen


def _part(mask, like: PyTree) -> PyTree:
    return jax.tree.map(lambda leaf, m: None if m is False else leaf, like, _resolve(mask, like))


def _frame(direction: Direction, mask, key: jax.Array, num_directions: int, like: PyTree) -> PyTree:
    return direction.frame(key, num_directions, _part(mask, like))


def _draw(direction: Direction, mask, frame: PyTree, index, like: PyTree) -> PyTree:
    def apply(leaf, m, z):
        return z if z is None or m is True else noise.MaskedNoise(z, m)

    chosen, drawn = _resolve(mask, like), direction.draw(frame, index, _part(mask, like))
    return jax.tree.map(apply, like, chosen, drawn)


def _combine(
    direction: Direction, mask, frame: PyTree, coefficients: jax.Array, like: PyTree
) -> PyTree:
    def apply(leaf, m, total):
        if total is None:
            return full_like(leaf, 0, accumulator_dtype(leaf.dtype))
        return total if m is True else jnp.where(m, total, 0)

    total = direction.combine(frame, coefficients, _part(mask, like))
    return jax.tree.map(apply, like, _resolve(mask, like), total)


def _max_directions(direction: Direction, mask, like: PyTree) -> int | None:
    return direction.max_directions(_part(mask, like))


def _fit(mask: PyTree, like: PyTree) -> PyTree:
    """The mask as a tree like `like`, with None for each leaf without noise."""
    try:
        return jax.tree.map(
            lambda leaf, m: None if leaf is None else m, like, mask, is_leaf=lambda x: x is None
        )
    except ValueError as error:
        raise ValueError(f"mask must have the structure of the parameters: {error}") from error


def _answer(path, selected) -> bool:
    if np.ndim(selected) or isinstance(selected, jax.core.Tracer):
        raise TypeError(
            f"mask must return a bool for params{jax.tree_util.keystr(path)}, got {brief(selected)}; "
            "give a pytree of bool arrays to select entries."
        )
    return bool(selected)


def _may_select(mask) -> bool:
    return isinstance(mask, jax.core.Tracer) or bool(np.any(mask))


def _checked(leaf: jax.ShapeDtypeStruct, mask):
    if isinstance(mask, (bool, np.bool_)):
        return bool(mask)
    dtype = np.asarray(mask).dtype if not isinstance(mask, jax.Array) else mask.dtype
    if dtype != jnp.bool_:
        raise ValueError(f"mask leaves must be bool, got {brief(mask)}; compare or .astype(bool).")
    mask = jnp.asarray(mask)
    if mask.shape == () and not isinstance(mask, jax.core.Tracer):
        return bool(mask)
    if mask.shape != leaf.shape:
        raise ValueError(f"mask must have its leaf's shape {leaf.shape}, got {mask.shape}.")
    return mask
