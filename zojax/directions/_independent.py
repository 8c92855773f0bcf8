"""Independent entries: one seed for each step, one child seed for each leaf and direction."""

from collections.abc import Callable, Iterable
from functools import partial

import jax

from zojax import noise
from zojax._direction import Direction
from zojax._trees import PyTree
from zojax.directions._combine import accumulate


def independent(source: Callable[[noise.Seed], noise.Source]) -> Direction:
    """The direction with leaves filled by `source` (`noise.Signs`, `noise.Normals`)."""
    draw = partial(_draw, source)
    return Direction(seed_of_step, draw, accumulate(draw))


def seed_of_step(key: jax.Array, num_directions: int, like: PyTree) -> jax.Array:
    """A frame that is only a seed."""
    del num_directions, like
    return noise.make_seed(key)


def _draw(source, seed: jax.Array, index, like: PyTree) -> PyTree:
    return of_leaves(lambda own, leaf: noise.row_noise(source(own), leaf.shape), seed, index, like)


def of_leaves(make: Callable, seed, index, like: PyTree, *others: Iterable) -> PyTree:
    """`make(own seed, leaf, *others)` of each leaf, for direction `index`; `others` in their order."""
    leaves, treedef = jax.tree.flatten(like)
    seeds = noise.child_seeds(seed, index, max(len(leaves), 1))
    return jax.tree.unflatten(treedef, map(make, seeds, leaves, *others))
