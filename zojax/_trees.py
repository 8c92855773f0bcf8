"""Pytrees: the float leaves, which are perturbed, and the other leaves, which stay as they are.

A tree called `like` describes parameters without their values: a `jax.ShapeDtypeStruct` at float leaves,
`None` at all others. Directions see only this tree.
"""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from zojax._checks import brief
from zojax._sharding import is_sharded, spans_processes

PyTree = Any
T = TypeVar("T")


class Split(NamedTuple):
    """A tree in two lists: its float leaves, and the others.

    Attributes:
      floats: the float leaves, in the order of the tree.
      others: all leaves, with None in the places of `floats`.
      treedef: the structure of the whole tree.

    >>> split = Split.of({"n": 3, "x": 1.0})
    >>> split.tree(), split.join([2.0]), split.places_in({"n": 7, "x": 5.0})
    ({'n': None, 'x': 1.0}, {'n': 3, 'x': 2.0}, [5.0])
    """

    floats: list[Any]
    others: list[Any]
    treedef: jax.tree_util.PyTreeDef

    @classmethod
    def of(cls, tree: PyTree) -> "Split":
        return cls.of_leaves(*jax.tree.flatten(tree))

    @classmethod
    def of_leaves(cls, leaves: list[Any], treedef: jax.tree_util.PyTreeDef) -> "Split":
        mask = [is_float(leaf) for leaf in leaves]
        floats = [leaf for leaf, chosen in zip(leaves, mask, strict=True) if chosen]
        others = [None if chosen else leaf for leaf, chosen in zip(leaves, mask, strict=True)]
        return cls(floats, others, treedef)

    def tree(self, floats: Iterable | None = None) -> PyTree:
        """These floats, or its own, as a tree with None at all other leaves."""
        return self.join(self.floats if floats is None else floats, lambda leaf: None)

    def join(self, floats: Iterable, other: Callable = lambda leaf: leaf) -> PyTree:
        """The whole tree: these floats, and `other(leaf)` at all other leaves."""
        return self.treedef.unflatten(self.leaves(floats, other))

    def leaves(self, floats: Iterable, other: Callable = lambda leaf: leaf) -> list[Any]:
        """The leaves of `join`."""
        new = iter(floats)
        return [next(new) if x is None else other(x) for x in self.others]

    def places_in(self, tree: PyTree) -> list[Any]:
        """The leaves of another tree in the places of `floats`."""
        leaves = self.treedef.flatten_up_to(tree)
        return [leaf for leaf, x in zip(leaves, self.others, strict=True) if x is None]


def is_float(leaf) -> bool:
    """Whether a leaf is perturbed: real floating point of any width."""
    dtype = getattr(leaf, "dtype", None)
    if dtype is None:
        return isinstance(leaf, float)
    return jnp.issubdtype(dtype, jnp.floating)


def structure_of(params: PyTree, name: str = "params") -> PyTree:
    """A ShapeDtypeStruct for every leaf, with its sharding on an explicit mesh.

    Raises TypeError for a leaf that is not an array.
    """
    leaves, treedef = _structures(params, name)
    return treedef.unflatten(leaves)


def split_structure(params: PyTree) -> Split:
    """`Split.of(structure_of(params))`; raises ValueError without a float leaf."""
    leaves, treedef = _structures(params, "params")
    split = Split.of_leaves(leaves, treedef)
    if not any(leaf.size for leaf in split.floats):
        dtypes = [str(leaf.dtype) for leaf in leaves]
        raise ValueError(
            f"params has no float leaf to perturb, got leaves of dtype {dtypes}; "
            "cast what should be trained to a floating dtype."
        )
    return split


def _structures(
    params: PyTree, name: str
) -> tuple[list[jax.ShapeDtypeStruct], jax.tree_util.PyTreeDef]:
    leaves, treedef = jax.tree.flatten(params)
    require_arrays(name, params, leaves)
    return [_described(leaf) for leaf in leaves], treedef


def _described(leaf) -> jax.ShapeDtypeStruct:
    sharding = jax.typeof(leaf).sharding if is_sharded(leaf) else None
    return jax.ShapeDtypeStruct(jnp.shape(leaf), jnp.result_type(leaf), sharding=sharding)


def require_arrays(name: str, tree: PyTree, leaves: list | None = None) -> None:
    """Raises TypeError for a leaf that is not an array or a number of JAX."""
    for leaf in jax.tree.leaves(tree) if leaves is None else leaves:
        if not isinstance(leaf, jax.Array) and not _has_dtype_of_jax(leaf):
            raise _not_an_array(name, tree, leaf)


def require_dtypes(name: str, tree: PyTree) -> None:
    """Raises TypeError for a wrapped array, or one whose dtype JAX lacks. Other leaves may be static."""
    for leaf in jax.tree.leaves(tree):
        is_array = isinstance(leaf, (np.ndarray, np.generic)) or hasattr(leaf, "__jax_array__")
        if is_array and not _has_dtype_of_jax(leaf):
            raise _not_an_array(name, tree, leaf)


def _has_dtype_of_jax(leaf) -> bool:
    """Whether JAX can convert a leaf to an array. A wrapper with `__jax_array__` may be mutable: no."""
    if isinstance(leaf, (str, type)) or callable(getattr(leaf, "__jax_array__", None)):
        return False
    try:
        dtype = jnp.result_type(leaf)
    except TypeError:
        return False
    return any(jnp.issubdtype(dtype, kind) for kind in (np.number, np.bool_, jax.dtypes.extended))


def _not_an_array(name: str, tree: PyTree, leaf) -> TypeError:
    paths = jax.tree_util.tree_leaves_with_path(tree)
    path = next(path for path, x in paths if x is leaf)
    got = brief(leaf)
    if not isinstance(leaf, (np.ndarray, np.generic)):
        remedy = (
            "split functions, settings and variables from the arrays first "
            "(equinox.partition, nnx.split, penzai's pz.unbind_params)"
        )
    else:
        got = f"{got} of dtype {leaf.dtype}"
        remedy = "JAX lacks this dtype: cast it, as with x.astype(np.float32), or leave it out"
        if not leaf.dtype.isnative:
            remedy = "swap its bytes with x.astype(x.dtype.newbyteorder('='))"
    return TypeError(
        f"{name}{jax.tree_util.keystr(path)} must be an array or a number, got {got}; {remedy}."
    )


def copied(tree: PyTree) -> PyTree:
    """Arrays of their own, which a program may be donated; most are copied without a program."""

    def copy(x):
        if spans_processes(x):  # `device_put` refuses some of them, such as keys
            return jnp.copy(x)
        # `device_put` shares the memory of a NumPy array, whatever `may_alias` says.
        x = x if isinstance(x, jax.Array) else np.array(x)
        return jax.device_put(x, may_alias=False)

    return jax.tree.map(copy, tree)


def floats_only(params: PyTree) -> PyTree:
    """`params` with None in place of every leaf that is not floating point."""
    return jax.tree.map(lambda x: x if is_float(x) else None, params)


def widened(leaf, dtype) -> jax.Array | jax.ShapeDtypeStruct:
    """A leaf in this dtype; a description stays one."""
    if isinstance(leaf, jax.ShapeDtypeStruct):
        return leaf.update(dtype=dtype)
    return jnp.asarray(leaf, dtype)


def no_update(leaf) -> jax.Array | None:
    """The update of a leaf that is not perturbed: zeros, or None for keys, which cannot be added."""
    dtype = jnp.result_type(leaf)
    if jnp.issubdtype(dtype, jax.dtypes.prng_key):
        return None
    return jnp.zeros(jnp.shape(leaf), dtype)


def apply_updates(params: T, updates: PyTree) -> T:
    """`optax.apply_updates` for trees with keys: a leaf with the update None stays unchanged.

    An update wider than its leaf is added in its own dtype, also under strict promotion.

    >>> import jax, jax.numpy as jnp, zojax
    >>> params = {"w": jnp.ones(2), "rng": jax.random.key(0)}
    >>> print(zojax.apply_updates(params, {"w": jnp.ones(2), "rng": None})["w"])
    [2. 2.]
    """

    def add(p, u):
        return p if u is None else (p + u).astype(jnp.result_type(p))

    with jax.numpy_dtype_promotion("standard"):
        return jax.tree.map(add, params, updates)


def total_size(like: PyTree) -> int:
    """The number d of perturbed coordinates, a Python int: it may exceed 2**31."""
    return sum(leaf.size for leaf in jax.tree.leaves(like))


def starts(like: PyTree) -> list[int]:
    """The number of the first coordinate of each leaf, where all leaves are one vector."""
    sizes = [leaf.size for leaf in jax.tree.leaves(like)]
    return np.cumsum([0, *sizes], dtype=np.int64)[:-1].tolist()
