"""The contract of a direction: frame, draw, combine."""

from collections.abc import Callable
from typing import NamedTuple

import jax

from zojax._trees import PyTree


def _unlimited(like: PyTree) -> None:
    """The largest number of directions of a step without one."""
    del like


class Direction(NamedTuple):
    """Which way to step: how the directions z_0 ... z_{N-1} of one step are made and summed.

    `frame(key, num_directions, like)` makes what the directions of one step share (a seed, a basis).
    `draw(frame, index, like)` gives direction `index`: the tree `like` with a noise object
    (`zojax.noise`) for every leaf that is perturbed and `None` for every leaf that is not.
    `combine(frame, coefficients, like)` gives sum_i c_i z_i in float32 (float64 for float64 leaves).
    `max_directions(like)` is the largest number of directions a step may ask for, or None.
    `shares_products` says that directions are cheapest evaluated together.
    """

    frame: Callable[[jax.Array, int, PyTree], PyTree]
    draw: Callable[[PyTree, jax.Array, PyTree], PyTree]
    combine: Callable[[PyTree, jax.Array, PyTree], PyTree]
    max_directions: Callable[[PyTree], int | None] = _unlimited
    shares_products: bool = False
