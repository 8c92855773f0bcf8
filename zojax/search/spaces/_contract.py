"""Checks of a user's domain, before any search."""

from typing import Any

import numpy as np

from zojax.search.spaces._arguments import as_bounds, as_shape
from zojax.search.spaces._domain import CONTINUOUS, ORDERED, UNORDERED, Domain
from zojax.search.spaces._precision import exact_bits, require_resolution

# Members without a default in `Domain`, then those that a class must define if it is no subclass.
MEMBERS = "kind low high shape slack snap traceable is_continuum count values".split()


def require_domain(domain: Domain) -> None:
    """Raises for a domain that breaks the contract of `Domain`."""
    name = type(domain).__name__
    # The class first: a property may be costly, or wrong for bounds that are checked below.
    places = type(domain), domain
    missing = [m for m in MEMBERS if not any(hasattr(place, m) for place in places)]
    if missing:
        raise TypeError(f"{name} must define {' and '.join(missing)}: see search.Domain.")
    if not set(np.unique(domain.kind).tolist()) <= {CONTINUOUS, ORDERED, UNORDERED}:
        raise ValueError(
            f"kind of {name} must be CONTINUOUS, ORDERED or UNORDERED, got {domain.kind!r}: "
            "import them from zojax.search."
        )
    if as_shape(domain.shape) != domain.shape:
        raise ValueError(f"shape of {name} must be a tuple of sizes, got {domain.shape!r}.")
    columns = np.broadcast_arrays(domain.kind, domain.low, domain.high)
    for kind, low, high in set(zip(*(c.ravel().tolist() for c in columns), strict=True)):
        _require_bounds(name, kind, low, high, domain.is_continuum)
    try:
        hash(domain)
    except TypeError as error:
        raise TypeError(
            f"{name} must be hashable: make it a @dataclass(frozen=True) with hashable fields."
        ) from error


def _require_bounds(name: str, kind: int, low: Any, high: Any, is_continuum: bool) -> None:
    low, high = as_bounds(name, low, high)
    if kind != CONTINUOUS:
        if low % 1 or high % 1:
            raise ValueError(
                f"{name} has whole coordinates and needs whole bounds, got {low} and {high}."
            )
        if max(-low, high) > 2 ** exact_bits():
            raise ValueError(
                f"bounds of {name} must lie within 2^{exact_bits()}, got {low} and {high}: "
                "encode an offset, and add the rest in decode."
            )
    elif is_continuum:
        require_resolution(name, low, high, low, high)
