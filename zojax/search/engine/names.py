"""Points as flat dictionaries, for tables and journals."""

from typing import Any

import jax
import numpy as np

from zojax._trees import PyTree
from zojax.search.spaces import Branch


def flat(tree: PyTree, axes: int = 0) -> dict[str, Any]:
    """The entries of a pytree by name. Each keeps its first `axes` axes.

    A `Branch` is its name, followed by the entries of its point.

    >>> flat({"x": np.array([1.0, 2.0]), "kind": "a"})
    {'kind': 'a', 'x[0]': 1.0, 'x[1]': 2.0}
    >>> flat({"model": Branch("knn", {"k": 3})})
    {'model': 'knn', 'model.knn.k': 3}
    """
    entries: dict[str, Any] = {}
    for path, leaf in jax.tree.leaves_with_path(tree, is_leaf=_is_leaf):
        name = jax.tree_util.keystr(path, simple=True, separator=".") or "x"
        if isinstance(leaf, Branch):
            entries[name] = leaf.name
            entries |= flat({name: {leaf.name: leaf.value}})
            continue
        if not hasattr(leaf, "shape"):
            entries[name] = leaf
            continue
        array = np.asarray(leaf)
        for index in np.ndindex(array.shape[axes:]):
            place = f"[{', '.join(map(str, index))}]" if index else ""
            entry = array[(slice(None),) * axes + index]
            is_scalar = not axes and hasattr(entry, "item")
            entries[name + place] = entry.item() if is_scalar else entry
    return entries


def _is_leaf(node: Any) -> bool:
    return node is None or isinstance(node, Branch)
