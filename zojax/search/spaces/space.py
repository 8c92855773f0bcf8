"""A pytree of domains as one box: algorithms see its points as arrays of shape (..., d).

A `Space` puts the coordinates of its domains side by side: d *encoded* coordinates between `low` and
`high`.

    domain                      encoded coordinate                      kind
    uniform(lo, hi)             the value                               CONTINUOUS
    log_uniform(lo, hi)         its logarithm                           CONTINUOUS
    integers(lo, hi)            0 ... hi - lo                           ORDERED
    log_integers(lo, hi)        the logarithm of an integer             CONTINUOUS
    uniform(lo, hi, step=s)     0 ... (hi - lo) / s                     ORDERED
    ordered([...])              the position in the list                ORDERED
    choice([...])               the position in the list                UNORDERED
    subset(n, max_size=k)       n zeros and ones                        UNORDERED
    permutation(n)              the place of each item                  UNORDERED
    real(loc, scale)            -1 ... 1, logarithmic near both ends    CONTINUOUS
    choice({...})               the position, and the coordinates of all options

So algorithms know only boxes and kinds. The box of log_integers runs from log(lo - 1/2) to log(hi + 1/2),
so that each integer has its own bin. `Domain` describes how to write your own.

`Space.decode` turns encoded arrays into the user's pytree, also inside a traced function. `Space.point`
does so in float64, for people and for functions on the host.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from zojax._numerics import promoting
from zojax._trees import PyTree
from zojax.search._random import sample_unit
from zojax.search.spaces._contract import require_domain
from zojax.search.spaces._domain import CONTINUOUS, UNORDERED, Domain, is_domain
from zojax.search.spaces._precision import namespace_of


@dataclass(frozen=True)
class Space:
    """A pytree of domains as a box with d encoded coordinates, from `space(tree)`.

    Attributes:
      domains: the leaves of the tree.
      treedef: its structure.
    """

    domains: tuple[Domain, ...]
    treedef: Any

    @cached_property
    def dimension(self) -> int:
        """The number d of encoded coordinates."""
        return sum(self._lengths)

    @cached_property
    def size(self) -> float:
        """The number of points: an int, or inf."""
        counts = [domain.count for domain in self.domains]
        # A product with inf would convert the other counts to floats, which may overflow.
        return math.inf if math.inf in counts else math.prod(counts)

    @cached_property
    def low(self) -> np.ndarray:
        """Encoded lower bounds, shape (d,)."""
        return self._per_coordinate("low")

    @cached_property
    def high(self) -> np.ndarray:
        """Encoded upper bounds, shape (d,)."""
        return self._per_coordinate("high")

    @cached_property
    def kinds(self) -> np.ndarray:
        """CONTINUOUS, ORDERED or UNORDERED, int8 of shape (d,)."""
        return self._per_coordinate("kind").astype(np.int8)

    @cached_property
    def options(self) -> np.ndarray:
        """How many options coordinates without order have, int of shape (d,); 1 for all others."""
        sizes = self._per_coordinate("high") - self._per_coordinate("low") + 1
        return np.where(self.kinds == UNORDERED, sizes, 1).astype(int)

    @property
    def cells(self) -> tuple[Any, Any]:
        """Lower ends and widths of the ranges, (d,) each. Every whole number has a cell of its own."""
        half = np.where(self.kinds == CONTINUOUS, 0.0, 0.5)
        low, width = self.low - half, self.high - self.low + 2 * half
        return low, namespace_of(width).maximum(width, 1e-30)

    @cached_property
    def slack(self) -> np.ndarray:
        """The rounding of `encode` outside the bounds, shape (d,)."""
        return self._per_coordinate("slack")

    @property
    def is_continuous(self) -> bool:
        return bool(np.all(self.kinds == CONTINUOUS))

    @property
    def is_discrete(self) -> bool:
        return bool(np.all(self.kinds != CONTINUOUS))

    @property
    def is_continuum(self) -> bool:
        """Whether every point of the box belongs to the space, so that equal proposals are rare."""
        return all(domain.is_continuum for domain in self.domains)

    @cached_property
    def is_conditional(self) -> bool:
        """Whether some coordinates matter at some points only."""
        return any(getattr(domain, "active", None) is not None for domain in self.domains)

    def sample(self, key, num: int) -> jax.Array:
        """`num` random points, encoded, shape (num, d): uniform over the box, bounds included."""
        return self.from_unit(sample_unit(key, (num, self.dimension)))

    @promoting
    def from_unit(self, u: jax.Array) -> jax.Array:
        """Encoded points from uniform numbers in [0, 1): every discrete value is equally likely."""
        return self._snap(self.in_box(u))

    @promoting
    def in_box(self, u: jax.Array) -> jax.Array:
        """Points of the box from uniform numbers in [0, 1), each coordinate for itself: without `snap`."""
        low, high = jnp.asarray(self.low, u.dtype), jnp.asarray(self.high, u.dtype)
        if self.is_continuous:
            return self._to_box(low + u * (high - low))
        cell = jnp.where(self.kinds == CONTINUOUS, 0.0, 0.5).astype(u.dtype)
        return self._to_box((low - cell) + u * (high - low + 2 * cell))

    @promoting
    def to_unit(self, x: jax.Array) -> jax.Array:
        """The inverse of `from_unit` (..., d): a discrete value has the middle of its cell."""
        low, width = self.cells
        return (x - low.astype(x.dtype)) / width.astype(x.dtype)

    @promoting
    def clip(self, x: Any) -> Any:
        """The nearest encoded point of the space, (..., d), for arrays of NumPy or JAX."""
        return self._snap(self._to_box(x))

    @promoting
    def active(self, x: Any) -> Any:
        """Which coordinates of encoded points (..., d) matter there, bool (..., d)."""
        if not self.is_conditional:
            return np.ones(x.shape, bool)
        masks = [_active(*both) for both in zip(self.domains, self.split(x), strict=True)]
        return _side_by_side(masks, x)

    def _to_box(self, x: Any) -> Any:
        """Within the bounds, and whole where the kind is not continuous."""
        xp = namespace_of(x)
        x = xp.clip(x, self.low.astype(x.dtype), self.high.astype(x.dtype))
        if self.is_discrete:
            return xp.round(x)
        if self.is_continuous:
            return x
        return xp.where(self.kinds == CONTINUOUS, x, xp.round(x))

    def _snap(self, x: Any) -> Any:
        """The nearest points of the space, from points of the box."""
        if all(domain.snap is None for domain in self.domains):
            return x
        parts = [
            part if d.snap is None else d.snap(part)
            for d, part in zip(self.domains, self.split(x), strict=True)
        ]
        return _side_by_side(parts, x)

    @promoting
    def decode(self, x: Any) -> PyTree:
        """The user's pytree from encoded points (..., d); leaves keep the leading axes. Traceable."""
        x = x if hasattr(x, "dtype") else np.asarray(x)
        parts = zip(self.domains, self.split(x), strict=True)
        return self.treedef.unflatten([d.decode(part) for d, part in parts])

    def point(self, x) -> PyTree:
        """One point (d,) in the user's form: Python scalars, the options themselves, NumPy arrays.

        For points (n, d), the leaves are arrays with a leading axis.
        """
        x = np.array(x, float)  # a copy for the user
        parts = zip(self.domains, self.split(x), strict=True)
        return self.treedef.unflatten([d.to_python(part) for d, part in parts])

    def encode(self, point: PyTree) -> np.ndarray:
        """The encoded (d,) of a user's point. Raises ValueError for a point outside the space."""
        try:
            values = self.treedef.flatten_up_to(point)
        except ValueError as error:
            message = f"{point!r} does not have the structure of the space\n{self}"
            raise ValueError(message) from error
        parts = zip(self.domains, values, strict=True)
        x = np.concatenate([np.zeros(0), *(_coordinates(domain, value) for domain, value in parts)])
        outside = ~((x >= self.low - self.slack) & (x <= self.high + self.slack))
        if outside.any():
            raise ValueError(f"{point!r} lies outside the space\n{self}")
        x = np.clip(x, self.low, self.high)
        nearest = self.clip(x)
        rounding = 1e-6 * np.where(self.kinds == CONTINUOUS, self.high - self.low, 1)
        if (np.abs(nearest - x) > rounding + self.slack).any():
            raise ValueError(f"{point!r} is not one of the points of the space\n{self}")
        return nearest

    @cached_property
    def labels(self) -> list[str]:
        """The path of each domain, such as "model.lr", or "" for a single domain."""
        return [jax.tree_util.keystr(p, simple=True, separator=".") for p in self._paths]

    @property
    def _paths(self) -> list:
        tree = self.treedef.unflatten(range(len(self.domains)))
        return [path for path, _ in jax.tree.leaves_with_path(tree)]

    def __str__(self):
        paths = (jax.tree_util.keystr(path) or "x" for path in self._paths)
        lines = [f"{path}: {domain}" for path, domain in zip(paths, self.domains, strict=True)]
        return "\n".join([*lines, f"{self.dimension} coordinates, {_shown(self.size)} points"])

    @cached_property
    def _lengths(self) -> tuple[int, ...]:
        return tuple(math.prod(d.shape) for d in self.domains)

    def _per_coordinate(self, name: str) -> np.ndarray:
        parts = [
            np.broadcast_to(np.asarray(getattr(d, name), float), d.shape).ravel()
            for d in self.domains
        ]
        return np.concatenate(parts) if parts else np.zeros(0)

    def split(self, x) -> list:
        """The coordinates of each domain, (..., *shape)."""
        parts = [x]
        if len(self.domains) != 1:
            ends = np.cumsum(self._lengths).tolist()
            parts = [x[..., end - n : end] for end, n in zip(ends, self._lengths, strict=True)]
        return [
            part.reshape(x.shape[:-1] + d.shape)
            for d, part in zip(self.domains, parts, strict=True)
        ]


def space(tree: PyTree) -> Space:
    """A `Space` from any pytree of domains. A Space is returned unchanged.

    Args:
      tree: the pytree, or a single domain.

    Raises:
      TypeError: a leaf that is not a domain; a domain of your own with missing members.
      ValueError: no leaf at all; bounds of a domain of your own that cannot be searched.

    >>> from zojax import search
    >>> tree = {"lr": search.log_uniform(1e-4, 1.0), "act": search.choice(["a", "b"])}
    >>> print(space(tree))
    ['act']: choice(['a', 'b'])
    ['lr']: log_uniform(0.0001, 1)
    2 coordinates, infinitely many points
    """
    if isinstance(tree, Space):
        return tree
    leaves, treedef = jax.tree.flatten(tree, is_leaf=is_domain)
    for leaf in leaves:
        if not is_domain(leaf):
            raise TypeError(
                f"space must be a pytree of domains such as search.uniform(0, 1), got {leaf!r} in it: "
                "pass constants in args, and register your classes with jax.tree_util.register_dataclass."
            )
        require_domain(leaf)
    if not leaves:
        raise ValueError(f"space must hold at least one domain, got {tree!r}.")
    return Space(tuple(leaves), treedef)


def _side_by_side(parts: list, x: Any) -> Any:
    """Parts of all domains (..., *shape) as one array, (..., d), like x."""
    return namespace_of(x).concatenate([p.reshape(*x.shape[:-1], -1) for p in parts], axis=-1)


def _active(domain: Domain, x: Any) -> Any:
    """Which coordinates of a domain matter at x."""
    active = getattr(domain, "active", None)
    return np.ones(x.shape, bool) if active is None else active(x)


def _coordinates(domain: Domain, value) -> np.ndarray:
    """The flat encoded coordinates of a value."""
    encoded = np.asarray(domain.encode(value), float)
    if encoded.shape != domain.shape:
        raise ValueError(
            f"encode of {domain} must return shape {domain.shape}, got {encoded.shape} for {value!r}."
        )
    return encoded.ravel()


def _shown(count: float) -> str:
    """A number of points as text. It may be too large for a float, or to print."""
    if count == math.inf:
        return "infinitely many"
    return f"{count:,}" if count < 10**18 else f"about 10^{math.log10(count):.0f}"
