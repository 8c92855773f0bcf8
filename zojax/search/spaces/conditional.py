"""A choice among named spaces: a point holds the variables of one of them only."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import jax
import numpy as np

from zojax.search.spaces._arguments import CONSTANT
from zojax.search.spaces._domain import ORDERED, Domain, is_domain, objects
from zojax.search.spaces._listing import all_points
from zojax.search.spaces._precision import namespace_of
from zojax.search.spaces.space import Space, space


class Branch(NamedTuple):
    """The value of a choice among named spaces.

    Attributes:
      name: of the chosen space.
      value: a point of that space.

    >>> Branch("knn", {"k": 3}) == ("knn", {"k": 3})
    True
    """

    name: Any
    value: Any


@dataclass(frozen=True)
class Conditional(Domain):
    """One of several named spaces, as the position of its name and the coordinates of all spaces.

    The coordinates of the other spaces do not matter. They lie at `rest`, so that every point has one
    encoding.
    """

    names: tuple
    branches: tuple[Space, ...]
    order: int  # ORDERED or UNORDERED, of the names
    traceable = False

    @cached_property
    def shape(self):
        return (1 + sum(branch.dimension for branch in self.branches),)

    @cached_property
    def kind(self):
        return np.concatenate([[self.order], *(branch.kinds for branch in self.branches)])

    @cached_property
    def low(self):
        return np.concatenate([[0], *(branch.low for branch in self.branches)])

    @cached_property
    def high(self):
        return np.concatenate([[len(self.names) - 1], *(b.high for b in self.branches)])

    @cached_property
    def slack(self):
        return np.concatenate([[0], *(branch.slack for branch in self.branches)])

    @cached_property
    def rest(self) -> np.ndarray:
        """The coordinates of spaces that are not chosen, behind a position of 0."""
        return np.concatenate([[0], *(b.clip((b.low + b.high) / 2) for b in self.branches)])

    @property
    def count(self):
        sizes = [branch.size for branch in self.branches]
        return np.inf if np.inf in sizes else sum(sizes)

    def values(self):
        blocks = []
        for i, (branch, place) in enumerate(zip(self.branches, self.places, strict=True)):
            points = all_points(branch)
            block = np.tile(self.rest, (len(points), 1))
            block[:, 0], block[:, place] = i, points
            blocks.append(block)
        return np.concatenate(blocks)

    def snap(self, x):
        xp, index = namespace_of(x), x[..., :1]
        parts = [index]
        for i, (branch, place) in enumerate(zip(self.branches, self.places, strict=True)):
            rest = self.rest[place].astype(x.dtype)
            parts.append(xp.where(index == i, branch.clip(x[..., place]), rest))
        return xp.concatenate(parts, axis=-1)

    def active(self, x):
        xp, index = namespace_of(x), x[..., :1]
        parts = [index == index]
        for i, (branch, place) in enumerate(zip(self.branches, self.places, strict=True)):
            parts.append((index == i) & branch.active(x[..., place]))
        return xp.concatenate(parts, axis=-1)

    def decode(self, x):
        raise TypeError(
            f"{self} has names, which are no numbers, so JAX cannot trace fun: pass jit=False, or "
            "search all variables side by side, and use lax.switch."
        )

    def to_python(self, x):
        if x.ndim > 1:
            flat = objects([self.to_python(row) for row in x.reshape(-1, *self.shape)])
            return flat.reshape(x.shape[:-1])
        i = int(np.round(x[0]))
        return Branch(self.names[i], self.branches[i].point(x[self.places[i]]))

    def encode(self, value):
        if not isinstance(value, (tuple, list)) or len(value) != 2 or value[0] not in self.names:
            raise ValueError(
                f"a value of {self} must be a pair of a name and its point, got {value!r}."
            )
        i = self.names.index(value[0])
        x = self.rest.copy()
        x[0], x[self.places[i]] = i, self.branches[i].encode(value[1])
        return x

    def __str__(self):
        shown = [f"{n!r}: {_shown(b)}" for n, b in zip(self.names, self.branches, strict=True)]
        return f"{'ordered' if self.order == ORDERED else 'choice'}({{{', '.join(shown)}}})"

    @cached_property
    def places(self) -> list[slice]:
        """The coordinates of each space."""
        ends = 1 + np.cumsum([branch.dimension for branch in self.branches])
        return [slice(e - b.dimension, e) for e, b in zip(ends, self.branches, strict=True)]


def conditional(name: str, options: Mapping, order: int, shape: Any) -> Conditional:
    """The domain of `choice` or `ordered`, the function called `name`, for named spaces."""
    if shape != ():
        raise ValueError(
            f"shape of {name} must be () for named options, got {shape!r}: pass a list of choices "
            "in the space instead."
        )
    if len(options) < 2:
        raise ValueError(f"{name} needs at least two options, got {options!r}{CONSTANT}.")
    return Conditional(tuple(options), tuple(_branch(name, *o) for o in options.items()), order)


def _branch(name: str, option: Any, tree: Any) -> Space:
    leaves, treedef = jax.tree.flatten(tree, is_leaf=is_domain)
    if not leaves:
        return Space((), treedef)
    try:
        return space(tree)
    except (TypeError, ValueError) as error:
        error.add_note(
            f"This is the option {option!r} of {name}. Pass list(options) to choose among the names."
        )
        raise


def _shown(branch: Space) -> str:
    """A space on one line."""
    if branch.labels == [""]:
        return str(branch.domains[0])
    shown = [f"{name}: {d}" for name, d in zip(branch.labels, branch.domains, strict=True)]
    return f"{{{', '.join(shown)}}}"
