"""Given points of which some leaves are missing, which are drawn."""

from typing import Any

import jax
import numpy as np

from zojax._trees import PyTree
from zojax.search.engine.numpy_program import numpy_program
from zojax.search.spaces import Space

MISSING = object()


def completed(space: Space, points: list, key: jax.Array) -> tuple[list, bool]:
    """(points with all leaves, whether any leaf was drawn).

    A leaf is missing if a dict lacks its key, or if it or a node above it is None. But None is a
    value where it is one of the options.
    """
    filled = [_filled(space, point) for point in points]
    missing = [leaves is not None and any(v is MISSING for v in leaves) for leaves in filled]
    if not any(missing):
        return points, False
    drawn = _sample(space, key, len(points))
    whole = []
    for point, leaves, lacks, x in zip(points, filled, missing, drawn, strict=True):
        if lacks and leaves is not None:
            own = space.treedef.flatten_up_to(space.point(x))
            both = zip(leaves, own, strict=True)
            point = space.treedef.unflatten([d if v is MISSING else v for v, d in both])
        whole.append(point)
    return whole, True


def _filled(space: Space, point: Any) -> list | None:
    """The leaves of a point, MISSING or given; None if it does not have the structure of the space."""
    template = space.treedef.unflatten(space.domains)
    try:
        leaves = space.treedef.flatten_up_to(_joined(template, point))
    except (TypeError, ValueError):
        return None  # `Space.encode` explains
    return [
        MISSING if v is None and not _has_none(d) else v
        for v, d in zip(leaves, space.domains, strict=True)
    ]


def _joined(template: PyTree, point: Any) -> Any:
    """The point with None for every leaf below a missing node."""
    if type(template) is dict and (point is None or isinstance(point, dict)):
        given = point or {}
        missing = {name: _joined(node, given.get(name)) for name, node in template.items()}
        return {**given, **missing}
    if type(template) in (list, tuple):
        nodes = [None] * len(template) if point is None else point
        return type(template)(_joined(*both) for both in zip(template, nodes, strict=True))
    return point


def _has_none(domain: Any) -> bool:
    """Whether None is one of a domain's values."""
    try:
        x = np.asarray(domain.encode(None), float)
    except Exception:  # of a user's domain, of any kind
        return False
    return bool(np.all((x >= domain.low) & (x <= domain.high)))


def _sample(space: Space, key: jax.Array, num: int) -> np.ndarray:
    """Random points without a compiled program."""
    data = np.asarray(jax.random.key_data(key))
    impl = jax.random.key_impl(key)
    program, _ = numpy_program(
        lambda data: space.sample(jax.random.wrap_key_data(data, impl=impl), num), data
    )
    return program(data)[0]
