"""Subsets of limited size."""

import itertools
import math
from dataclasses import dataclass

import numpy as np

from zojax.noise import scramble
from zojax.search.spaces._arguments import as_integers
from zojax.search.spaces._domain import UNORDERED, Domain, numbers_of
from zojax.search.spaces._precision import namespace_of


@dataclass(frozen=True)
class Subset(Domain):
    """At most `max_size` of n things, as a boolean mask of shape (n,)."""

    n: int
    max_size: int
    kind = UNORDERED
    low = 0
    high = 1

    @property
    def shape(self):
        return (self.n,)

    @property
    def count(self):
        return sum(math.comb(self.n, k) for k in range(self.max_size + 1))

    def values(self):
        sizes = range(self.max_size + 1)
        chosen = [c for k in sizes for c in itertools.combinations(range(self.n), k)]
        rows = np.zeros((len(chosen), self.n))
        for row, members in zip(rows, chosen, strict=True):
            row[list(members)] = 1
        return rows

    def snap(self, x):
        """Keeps at most `max_size` members. A hash of all members chooses, so no index is favoured."""
        if self.max_size == self.n:
            return x
        xp = namespace_of(x)
        is_member = x > 0.5
        names = np.arange(self.n, dtype=np.uint32) * np.uint32(0x9E3779B9)
        names = np.broadcast_to(names, x.shape)
        together = xp.sum(
            xp.where(is_member, scramble(names), np.uint32(0)), -1, np.uint32, keepdims=True
        )
        places = xp.where(is_member, scramble(names ^ together), np.uint32(2**32 - 1))
        last = xp.sort(places, axis=-1)[..., self.max_size - 1 : self.max_size]
        return xp.where(is_member & (places <= last), x, 0)

    def decode(self, x):
        return x > 0.5

    def encode(self, value):
        bits = numbers_of(self, value)
        if not np.isin(bits, (0, 1)).all():
            raise ValueError(f"a value of {self} must be a mask of {self.n} bools, got {value!r}.")
        if bits.sum() > self.max_size:
            raise ValueError(
                f"a value of {self} must have at most max_size = {self.max_size} members, "
                f"got {int(bits.sum())}."
            )
        return bits

    def __str__(self):
        return f"subset({self.n}, max_size={self.max_size})"


def subset(n: int, *, max_size: int) -> Domain:
    """Subsets of range(n) with at most `max_size` members, as boolean masks of shape (n,).

    A sample has each member with probability 1/2. If it has more than `max_size`, some are dropped.

    Args:
      n: how many things there are.
      max_size: the largest number of members.

    Raises:
      TypeError: n or max_size is not an int.
      ValueError: a max_size outside [1, n].

    >>> print(subset(30, max_size=4))
    subset(30, max_size=4)
    """
    n, max_size = as_integers("subset", n=n, max_size=max_size)
    if not 1 <= max_size <= n:
        raise ValueError(f"max_size must lie between 1 and n = {n}, got {max_size}.")
    return Subset(n, max_size)
