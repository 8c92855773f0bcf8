"""Independent entries: one seed for each step, one child seed for each leaf and direction."""

from collections.abc import Callable
from functools import partial

import jax

from zojax import noise
from zojax._direction import Direction
from zojax._trees import PyTree
from zojax.directions._combine import accumulate


def independent(source: Callable[[noise.Seed], noise.Source]) -> Direction:
    """The direction with leaves filled by `source` (`noise.Signs`, `noise.Normals`)."""
    draw = partial(_draw, source)
    return Direction(_frame, draw, accumulate(draw))


def _frame(key: jax.Array, num_directions: int, like: PyTree) -> jax.Array:
    del num_directions, like
    return noise.make_seed(key)


def _draw(source, seed: jax.Array, index, like: PyTree) -> PyTree:
    leaves, treedef = jax.tree.flatten(like)
    seeds = noise.child_seeds(seed, index, len(leaves))
    return jax.tree.unflatten(
        treedef, [noise.row_noise(source(seeds[i]), leaf.shape) for i, leaf in enumerate(leaves)]
    )
