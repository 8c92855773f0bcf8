"""Every point of a finite space."""

import numpy as np

from zojax.search.spaces._domain import Domain
from zojax.search.spaces.space import Space


def all_points(space: Space) -> np.ndarray:
    """Every encoded point of a finite space, shape (size, d)."""
    points = np.zeros((1, 0))
    for domain in space.domains:
        rows = _values(domain)
        left, right = len(points), len(rows)
        points = np.concatenate([np.repeat(points, right, 0), np.tile(rows, (left, 1))], axis=1)
    return points


def _values(domain: Domain) -> np.ndarray:
    """Every encoded value of a domain, flat, one per row."""
    values, shape = domain.values(), (domain.count, *domain.shape)
    if np.shape(values) != shape:
        raise ValueError(
            f"values() of {domain} must have shape (count, *shape) = {shape}, got {np.shape(values)}."
        )
    if domain.snap is not None and not np.allclose(domain.snap(values), values, rtol=0, atol=1e-9):
        raise ValueError(
            f"values() of {domain} must hold only values that its snap does not change."
        )
    return np.reshape(values, (len(values), -1))
