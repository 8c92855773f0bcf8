"""The points of a history as a table: one column for each variable."""

from typing import Any, NamedTuple

import jax
import numpy as np

from zojax.search.spaces import UNORDERED, Domain, Space
from zojax.search.spaces.conditional import Conditional


class Column(NamedTuple):
    """One variable of all points.

    Attributes:
      label: its path, such as "model.knn.k" or "x[1]".
      values: (n,) floats, or positions in `options`; nan where the variable is not part of the point.
      options: the values of a variable without numbers as text, else None.
      is_log: whether equal ratios are equal distances to the search.
    """

    label: str
    values: np.ndarray
    options: list[str] | None = None
    is_log: bool = False


def columns_of(space: Space, x: np.ndarray) -> list[Column]:
    """The columns of encoded points (n, d).

    A choice among named spaces has a column for the name, and one for each variable of each space.

    >>> from zojax import search
    >>> model = search.choice({"svm": {"C": search.uniform(1, 9)}, "knn": {"k": search.integers(1, 9)}})
    >>> space = search.space({"model": model, "x": search.uniform(0, 1, (2,))})
    >>> points = [{"model": ("svm", {"C": 4}), "x": [0, 1]}, {"model": ("knn", {"k": 3}), "x": [1, 1]}]
    >>> for column in columns_of(space, np.stack([space.encode(point) for point in points])):
    ...     print(column.label, column.values, column.options or "")
    model [1. 0.] ['knn', 'svm']
    model.svm.C [ 4. nan]
    model.knn.k [nan  3.]
    x[0] [0. 1.]
    x[1] [1. 1.]
    """
    parts = zip(space.labels, space.domains, space.split(np.asarray(x, float)), strict=True)
    return [column for part in parts for column in _columns_of_domain(*part)]


def _columns_of_domain(label: str, domain: Domain, x: np.ndarray) -> list[Column]:
    if isinstance(domain, Conditional):
        return _columns_of_branches(label, domain, x)
    columns = []
    for path, leaf in jax.tree.leaves_with_path(domain.to_python(x)):
        name = _joined(label, jax.tree_util.keystr(path, simple=True, separator="."))
        for place in np.ndindex(leaf.shape[1:]):
            entry = leaf[(slice(None), *place)]
            index = str(list(place)) if place else ""
            columns.append(_column((name or "x") + index, entry))
    return [column._replace(is_log=True) for column in columns] if _is_log(domain) else columns


def _is_log(domain: Domain) -> bool:
    """Whether the middle of the range is the geometric mean of its ends rather than the arithmetic mean."""
    if np.any(domain.kind == UNORDERED):
        return False
    box = np.stack([domain.low, domain.high, (domain.low + domain.high) / 2]).astype(float)
    ends = domain.to_python(np.stack([np.broadcast_to(x, domain.shape) for x in box]))
    if np.shape(ends) != (3, *domain.shape) or ends.dtype.kind not in "iuf":
        return False
    low, high, middle = ends.reshape(3, -1)[:, 0]
    return 0 < low < high and abs(middle - np.sqrt(low * high)) < abs(middle - (low + high) / 2)


def _columns_of_branches(label: str, domain: Conditional, x: np.ndarray) -> list[Column]:
    chosen = np.round(x[:, 0]).astype(int)
    columns = [_column(label or "x", np.array([str(domain.names[i]) for i in chosen], object))]
    for i, (name, branch) in enumerate(zip(domain.names, domain.branches, strict=True)):
        here = chosen == i
        for column in columns_of(branch, x[here][:, domain.places[i]]):
            values = np.full(len(x), np.nan)
            values[here] = column.values
            own = "" if column.label == "x" else column.label
            place = _joined(_joined(label, str(name)), own)
            columns.append(column._replace(label=place, values=values))
    return columns


def _column(label: str, values: np.ndarray) -> Column:
    if values.dtype.kind in "iuf":
        return Column(label, values.astype(float))
    texts = [str(value) for value in values.tolist()]
    options = sorted(set(texts))
    return Column(label, np.array([float(options.index(t)) for t in texts]), options)


def _joined(label: str, name: Any) -> str:
    return ".".join(filter(None, (label, name)))
