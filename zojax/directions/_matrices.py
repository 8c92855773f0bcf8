"""Directions of matrices, beside another direction of all other leaves."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from zojax import noise
from zojax._direction import Direction
from zojax._trees import PyTree


def are_matrices(like: PyTree) -> list[bool]:
    """Whether each leaf has two or more axes."""
    return [len(leaf.shape) >= 2 for leaf in jax.tree.leaves(like)]


def matrices_of(like: PyTree) -> PyTree:
    """The matrices of a tree, with None for other leaves."""
    return _split(like, are_matrices(like))[0]


def beside(vectors: Direction, *own: Any) -> Direction:
    """The direction of `_Beside(vectors, *own)`."""
    both = _Beside(vectors, *own)
    return Direction(both.frame, both.draw, both.combine, both.limit, shares_products=True)


class _Beside(NamedTuple):
    """A direction of the chosen leaves, by default the matrices, beside one of the others.

    `of_draw` and `of_combine` are those of the chosen leaves; their frame is a seed.
    """

    vectors: Direction
    of_draw: Callable
    of_combine: Callable
    chosen: Callable[[PyTree], list[bool]] = are_matrices

    def frame(self, key: jax.Array, num_directions: int, like: PyTree) -> tuple:
        rest, seed = _split(like, self.chosen(like))[1], noise.make_seed(key)
        has_rest = bool(jax.tree.leaves(rest))
        own = self.vectors.frame(noise.fold_in(key, 1), num_directions, rest) if has_rest else None
        return seed, own

    def draw(self, frame: tuple, index: jax.Array, like: PyTree) -> PyTree:
        return self._joined(self.of_draw, self.vectors.draw, frame, index, like)

    def combine(self, frame: tuple, coefficients: jax.Array, like: PyTree) -> PyTree:
        return self._joined(self.of_combine, self.vectors.combine, frame, coefficients, like)

    def limit(self, like: PyTree) -> int | None:
        rest = _split(like, self.chosen(like))[1]
        return self.vectors.max_directions(rest) if jax.tree.leaves(rest) else None

    def _joined(self, of_chosen: Callable, of_rest: Callable, frame, argument, like: PyTree):
        treedef: Any = jax.tree.structure(like)  # mypy knows no methods of it
        chosen = self.chosen(like)
        own, rest = _split(like, chosen)
        found = of_chosen(frame[0], argument, own)
        others = of_rest(frame[1], argument, rest) if jax.tree.leaves(rest) else rest
        pairs = zip(chosen, *map(treedef.flatten_up_to, (found, others)), strict=True)
        return treedef.unflatten([x if is_chosen else y for is_chosen, x, y in pairs])


def _split(like: PyTree, chosen: list[bool]) -> tuple[PyTree, PyTree]:
    """The chosen leaves and the others, each with None in the places of the others."""
    treedef: Any = jax.tree.structure(like)
    flags = treedef.unflatten(chosen)
    own = jax.tree.map(lambda leaf, is_chosen: leaf if is_chosen else None, like, flags)
    return own, jax.tree.map(lambda leaf, is_chosen: None if is_chosen else leaf, like, flags)
