"""The contract of a domain: one variable of a space, and its encoding as coordinates."""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

CONTINUOUS, ORDERED, UNORDERED = 0, 1, 2


class Domain:
    """One variable, or an array of independent variables: a leaf of a space.

    Subclass it for your own domain, or write a class with the same members. Algorithms see *encoded*
    coordinates: floats of shape (..., *shape), with any leading axes. A frozen dataclass is hashable, so
    equal searches compile once.

    A subclass defines

    - `kind`: CONTINUOUS for real coordinates; ORDERED or UNORDERED for whole numbers. All three are in
      `zojax.search`;
    - `low`, `high`: the bounds of every coordinate, both included. Where coordinates differ, these and
      `kind` are arrays of `shape`;
    - `decode(x)`: values from encoded coordinates. JAX traces it. On the host, x is a NumPy array.

    and, if the default does not fit,

    - `shape`: of the encoded coordinates, () by default;
    - `encode(value)`: the inverse of `decode`, for `init_points`;
    - `to_python(x)`: `decode` for host functions and results, from float64;
    - `snap(x)`: the nearest coordinates that encode a value, if not all do;
    - `active(x)`: which coordinates change the value, bool (..., *shape), if not all do. `snap` gives the
      others a fixed value;
    - `count`, `values()`: with a `snap` and finitely many values, their number and the values;
    - `traceable`: False if JAX cannot trace `decode`;
    - `slack`: the rounding of `encode`, outside the bounds; a number or an array of `shape`.

    >>> from dataclasses import dataclass
    >>> from zojax import search
    >>> @dataclass(frozen=True)
    ... class PowersOfTwo(search.Domain):
    ...     low: int
    ...     high: int
    ...     kind = search.ORDERED
    ...
    ...     def decode(self, x):
    ...         return 2 ** x.astype(int)
    ...
    ...     def encode(self, value):
    ...         return np.log2(value)
    >>> found = search.minimize(lambda n: abs(n - 30), PowersOfTwo(3, 6), search.random_search(),
    ...                         budget=50, key=0, init_points=[8])
    >>> found.best, sorted(found.history.points.tolist())
    (32, [8, 16, 32, 64])
    """

    kind: Any
    low: Any
    high: Any
    shape: tuple[int, ...] = ()
    traceable: bool = True
    slack: Any = 0.0
    snap: Callable | None = None
    active: Callable | None = None

    @property
    def is_continuum(self) -> bool:
        """Whether every point between the bounds encodes a value."""
        return bool(np.all(self.kind == CONTINUOUS)) and self.snap is None

    @property
    def count(self) -> float:
        """The number of values, of the whole array: an int, or inf."""
        if np.any(self.kind == CONTINUOUS):
            return math.inf
        sizes, times = np.unique(
            np.broadcast_to(self.high - self.low + 1, self.shape), return_counts=True
        )
        return math.prod(int(n) ** int(k) for n, k in zip(sizes, times, strict=True))

    def values(self) -> np.ndarray:
        """Every value of a finite domain, encoded, shape (count, *shape)."""
        if np.any(self.kind == CONTINUOUS):
            raise NotImplementedError(
                f"{self} has {self.count} values: define values() to list them."
            )
        bounds = (np.broadcast_to(bound, self.shape).ravel() for bound in (self.low, self.high))
        entries = (np.arange(low, high + 1) for low, high in zip(*bounds, strict=True))
        return np.reshape(list(itertools.product(*entries)), (-1, *self.shape))

    def decode(self, x: Any) -> Any:
        """Values from encoded coordinates (..., *shape), with the same leading axes."""
        raise NotImplementedError(
            f"{type(self).__name__} must define decode(x): see search.Domain."
        )

    def to_python(self, x: np.ndarray) -> Any:
        """Values for people and for functions on the host, from float64 coordinates."""
        return jax.tree.map(plain, self.decode(x))

    def encode(self, value: Any) -> np.ndarray:
        """The coordinates (*shape) of a value."""
        raise NotImplementedError(
            f"{type(self).__name__} must define encode(value), the inverse of decode, for init_points."
        )


def is_domain(x: Any) -> bool:
    """Whether x has the methods of a `Domain`; it need not be a subclass."""
    return all(hasattr(type(x), name) for name in ("decode", "encode", "to_python"))


def plain(value: Any) -> Any:
    """A Python scalar, or the array."""
    value = np.asarray(value)
    return value.item() if value.ndim == 0 else value


def objects(items: Sequence) -> np.ndarray:
    """Items of any kind as an array of objects, one entry each."""
    array = np.empty(len(items), object)
    for i, item in enumerate(items):
        array[i] = item
    return array


def combinations(entry: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Every array of a shape with entries from `entry`, shape (number of arrays, *shape)."""
    rows = list(itertools.product(entry, repeat=math.prod(shape)))
    return np.reshape(rows, (-1, *shape))


def numbers_of(domain: Domain, value: Any) -> np.ndarray:
    """The numbers of a value, with the domain's shape."""
    try:
        numbers = np.asarray(value, float)
    except (TypeError, ValueError) as error:
        raise ValueError(f"a value of {domain} must hold numbers, got {value!r}.") from error
    if numbers.shape != domain.shape:
        raise ValueError(
            f"a value of {domain} must have shape {domain.shape}, got {numbers.shape}."
        )
    return numbers


def log_of(number: np.ndarray) -> np.ndarray:
    """The logarithm: -inf or nan for numbers that are not positive, which no domain contains."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.log(number)


def times(shape: tuple[int, ...]) -> str:
    """A shape as text: " x 2 x 3"."""
    return "".join(f" x {n}" for n in shape)
