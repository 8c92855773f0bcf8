"""Orderings of some items."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from zojax.search.spaces._domain import UNORDERED, Domain
from zojax.search.spaces._options import as_options
from zojax.search.spaces._precision import namespace_of
from zojax.search.spaces.choice import Choice

FINEST = 256  # places in a small permutation, so that random coordinates rarely agree


@dataclass(frozen=True)
class Permutation(Domain):
    """The orderings of the options of `items`. The coordinate of an item is (2 place + 1) `half`.

    Another coordinate takes the item out and inserts it elsewhere. Without an order of coordinates,
    algorithms draw it from all places.
    """

    items: Choice
    kind = UNORDERED
    low = 0

    @property
    def half(self):
        return max(1, FINEST // self.items.size)

    @property
    def high(self):
        return 2 * self.half * self.items.size

    @property
    def shape(self):
        return (self.items.size,)

    @property
    def count(self):
        return math.factorial(self.items.size)

    @property
    def traceable(self):
        return self.items.traceable

    def values(self):
        return self._at(np.array(list(itertools.permutations(range(self.items.size)))))

    def snap(self, x):
        return self._at(_order(_order(x))).astype(x.dtype)

    def decode(self, x):
        return self.items.decode(_order(x))

    def to_python(self, x):
        return self.items.to_python(_order(x))

    def encode(self, value):
        places = [self.items.position(item) for item in value]
        if sorted(places) != list(range(self.items.size)):
            raise ValueError(f"a value of {self} must hold each item once, got {value!r}.")
        return self._at(np.argsort(places))

    def _at(self, place):
        return (2 * place + 1) * self.half

    def __str__(self):
        return f"permutation({str(self.items).removeprefix('choice(')}"


def permutation(items: int | Sequence) -> Domain:
    """Orderings of some items, as arrays: tours, schedules, priorities.

    Samples are nearly uniform. Algorithms move one item or a few to other places. The types of the array
    are those of an array of `choice(items)`.

    Args:
      items: at least two different items, or a number n for range(n).

    Raises:
      TypeError: items that are no list and no int; a domain among them.
      ValueError: fewer than two items, or equal ones.

    >>> print(permutation(3), permutation(["a", "b"]))
    permutation([0, 1, 2]) permutation(['a', 'b'])
    """
    if isinstance(items, (int, np.integer)) and not isinstance(items, bool):
        items = range(items)
    options = Choice(as_options("permutation", items), UNORDERED)
    for i, item in enumerate(options.options):
        if options.position(item) != i:
            raise ValueError(f"items of permutation must differ, got {item!r} twice.")
    return Permutation(options)


def _order(x):
    """The indices that sort the last axis."""
    return namespace_of(x).argsort(x, axis=-1, stable=True)
