"""Directions whose entries are independent: one seed a step, one child seed a leaf and direction."""

from functools import partial

import jax

from zojax import noise
from zojax._direction import Direction
from zojax._trees import PyTree
from zojax.directions._combine import accumulate


def independent(source) -> Direction:
    """The direction whose leaves are filled by `source` (`noise.Signs`, `noise.Normals`)."""
    draw = partial(_draw, source)
    return Direction(_frame, draw, accumulate(draw))


def _frame(key: jax.Array, num_directions: int, like: PyTree) -> jax.Array:
    del num_directions, like
    return noise.make_seed(key)


def _draw(source, seed: jax.Array, index, like: PyTree) -> PyTree:
    leaves, treedef = jax.tree.flatten(like)
    seeds = noise.child_seeds(seed, index, len(leaves))
    return treedef.unflatten(
        [noise.row_noise(source(seeds[i]), leaf.shape) for i, leaf in enumerate(leaves)]
    )
