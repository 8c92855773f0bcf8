"""Candidates of a search: points as trees of arrays with a leading axis, trained side by side."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np


@partial(jax.jit, static_argnums=0)
def side_by_side(losses: Callable, points: Any, keys: jax.Array) -> Any:
    """`losses(point, key)` of points and keys with a leading axis each."""
    return jax.vmap(losses)(points, keys)


def different(points: Any, number: int) -> Any:
    """The first `number` different points."""
    flat = np.column_stack([leaf.reshape(len(leaf), -1) for leaf in jax.tree.leaves(points)])
    first = np.sort(np.unique(flat, axis=0, return_index=True)[1])[:number]
    return jax.tree.map(lambda leaf: leaf[first], points)


def numbers(points: Any) -> Any:
    """Leaves as numeric arrays; a space returns chosen options as objects."""
    return jax.tree.map(lambda leaf: np.array(leaf.tolist()), points)


def row(points: Any, i: int) -> Any:
    """Point i."""
    return jax.tree.map(lambda leaf: leaf[i], points)


def failed_to_inf(values: Any) -> np.ndarray:
    """Values as float64, with inf for those that are not finite.

    >>> failed_to_inf([1.0, float("nan")]).tolist()
    [1.0, inf]
    """
    values = np.asarray(values, np.float64)
    return np.where(np.isfinite(values), values, np.inf)
