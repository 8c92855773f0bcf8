"""The contract of a domain: one variable, and its encoding as coordinates that algorithms see."""

import itertools
import math
from collections.abc import Callable

import jax
import numpy as np

CONTINUOUS, ORDERED, UNORDERED = 0, 1, 2


class Domain:
    """What one variable, or an array of independent ones, may be: a leaf of a space.

    Subclass it for a domain of your own. Algorithms see *encoded* coordinates: floats of shape
    (..., *shape), with any leading axes. A frozen dataclass is hashable, so equal searches compile once.

    A subclass defines

    - `kind`: CONTINUOUS (coordinates are any numbers), ORDERED or UNORDERED (whole numbers), all three from
      `zojax.search.domains`;
    - `low`, `high`: the bounds of every coordinate, both included;
    - `decode(x)`: values from encoded coordinates. JAX traces it; on the host x is a NumPy array.

    and, where the default does not fit,

    - `shape`: of the encoded coordinates, () by default;
    - `encode(value)`: the inverse of `decode`, which `init_points` need;
    - `to_python(x)`: `decode` for host functions and results, from float64;
    - `snap(x)`: the nearest coordinates that stand for a value, where not all of them do;
    - `count`, `values()`: with a `snap` and finitely many values, how many and which;
    - `traceable`: False if `decode` cannot be traced;
    - `slack`: how far outside the bounds `encode` may round.

    >>> from dataclasses import dataclass
    >>> from zojax import search
    >>> from zojax.search.domains import ORDERED
    >>> @dataclass(frozen=True)
    ... class PowersOfTwo(search.Domain):
    ...     low: int
    ...     high: int
    ...     kind = ORDERED
    ...
    ...     def decode(self, x):
    ...         return 2 ** x.astype(int)
    ...
    ...     def encode(self, value):
    ...         return np.log2(value)
    >>> found = search.minimize(lambda n: abs(n - 30), PowersOfTwo(3, 6), budget=50, key=0,
    ...                         init_points=[8])
    >>> found.best, sorted(found.history.points.tolist())
    (32, [8, 16, 32, 64])
    """

    kind: int
    low: float
    high: float
    shape: tuple[int, ...] = ()
    traceable: bool = True
    slack: float = 0.0
    snap: Callable | None = None

    @property
    def is_continuum(self) -> bool:
        """Whether every point between the bounds stands for a value."""
        return self.kind == CONTINUOUS and self.snap is None

    @property
    def count(self) -> float:
        """How many values there are, of the whole array: an int, or inf."""
        if self.kind == CONTINUOUS:
            return math.inf
        return int(self.high - self.low + 1) ** math.prod(self.shape)

    def values(self) -> np.ndarray:
        """Every value of a finite domain, encoded, shape (count, *shape)."""
        if self.kind == CONTINUOUS:
            raise NotImplementedError(
                f"{self} has {self.count} values: define values() to list them."
            )
        return combinations(np.arange(self.low, self.high + 1), self.shape)

    def decode(self, x):
        raise NotImplementedError(
            f"{type(self).__name__} must define decode(x): see search.Domain."
        )

    def to_python(self, x: np.ndarray):
        return jax.tree.map(plain, self.decode(x))

    def encode(self, value) -> np.ndarray:
        raise NotImplementedError(
            f"{type(self).__name__} must define encode(value), the inverse of decode, for init_points."
        )


def plain(value):
    """A Python scalar, or the array."""
    value = np.asarray(value)
    return value.item() if value.ndim == 0 else value


def combinations(entry: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Every array of a shape whose entries are among these, shape (number of arrays, *shape)."""
    rows = list(itertools.product(entry, repeat=math.prod(shape)))
    return np.reshape(rows, (-1, *shape))
