"""The perturbed parts that are in memory together.

A part exists from the array that its noise waits for to its reader. Elementwise readers are fused into the
next operation that stores its result, and read the part there. A loop holds its constants to its end.
Branches of a `cond` exclude each other.
"""

from dataclasses import dataclass, field
from math import inf

from jax.extend.core import JaxprEqn

from zojax.implicit import _registry
from zojax.implicit._perturbed import Perturbed


@dataclass
class _Part:
    """A part and its time in memory, by the numbers of arrays: made after `first`, read by `last`."""

    x: Perturbed
    first: int
    last: float = inf

    def overlaps(self, moment: int) -> bool:
        return self.first <= moment < self.last


@dataclass
class Budget:
    """The parts of one evaluation, in the order of the trace."""

    parts: list[_Part] = field(default_factory=list)
    open: list[_Part] = field(default_factory=list)
    held: set[tuple] = field(default_factory=set)

    def add(self, x: Perturbed, since: int) -> None:
        """`x` becomes an array after array number `since`."""
        loop = x.held_by
        if loop is not None:
            known = id(loop.eqn), x.name, id(x.base)  # all readers of a held weight share one copy
            if known in self.held:
                return
            self.held.add(known)
        part = _Part(x, since if loop is None else loop.begun)
        self.parts.append(part)
        self.open.append(part)

    def evaluated(self, eqn: JaxprEqn, now: int) -> None:
        """`eqn` has been evaluated; its first output has the number `now`."""
        fused = _registry.is_elementwise(eqn)
        for part in self.open:
            loop = part.x.held_by
            if not fused and not part.x.is_long_vector if loop is None else loop.eqn is eqn:
                part.last = now
        self.open = [part for part in self.open if part.last == inf]

    def most(self, held: bool = False) -> int:
        """Bytes of the most parts in memory together, or of the held ones alone."""
        parts = [part for part in self.parts if part.x.held_by is not None or not held]
        moments = {part.first for part in parts}
        totals = (sum(p.x.nbytes for p in parts if p.overlaps(m)) for m in moments)
        return max(totals, default=0)
