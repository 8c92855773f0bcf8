"""Pytrees: the float leaves, which are perturbed, and the rest, which passes through.

A tree called `like` describes parameters without holding them: float leaves are `jax.ShapeDtypeStruct`s,
every other leaf is `None`. Directions see only the leaves that they perturb.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from zojax._checks import brief
from zojax._sharding import is_sharded

PyTree = Any


def is_float(leaf) -> bool:
    """Whether a leaf is perturbed: real floating point of any width."""
    dtype = getattr(leaf, "dtype", None)
    if dtype is None:
        return isinstance(leaf, float)
    return jnp.issubdtype(dtype, jnp.floating)


def structure_of(params: PyTree, name: str = "params") -> PyTree:
    """A ShapeDtypeStruct for every leaf, with a sharding where that is part of its type.

    Raises TypeError for a leaf that is no array.
    """
    require_arrays(name, params)

    def describe(leaf):
        sharding = jax.typeof(leaf).sharding if is_sharded(leaf) else None
        return jax.ShapeDtypeStruct(jnp.shape(leaf), jnp.result_type(leaf), sharding=sharding)

    return jax.tree.map(describe, params)


def require_arrays(name: str, tree: PyTree) -> None:
    """Raises TypeError for a leaf that is no array or number of JAX."""
    for leaf in jax.tree.leaves(tree):
        if not isinstance(leaf, jax.Array) and not _has_dtype_of_jax(leaf):
            raise _not_an_array(name, tree, leaf)


def require_floats(structure: PyTree) -> None:
    """Raises ValueError unless a leaf is floating point."""
    if not total_size(floats_only(structure)):
        dtypes = [str(leaf.dtype) for leaf in jax.tree.leaves(structure)]
        raise ValueError(
            f"params has no float leaf to perturb, got leaves of dtype {dtypes}; "
            "cast what should be trained to a floating dtype."
        )


def require_dtypes(name: str, tree: PyTree) -> None:
    """Raises TypeError for an array of a dtype that JAX lacks, or in a wrapper. Others may be static."""
    for leaf in jax.tree.leaves(tree):
        is_array = isinstance(leaf, (np.ndarray, np.generic)) or hasattr(leaf, "__jax_array__")
        if is_array and not _has_dtype_of_jax(leaf):
            raise _not_an_array(name, tree, leaf)


def _has_dtype_of_jax(leaf) -> bool:
    """Whether a leaf, no array of JAX, can be made one. A wrapper that can is none: it may be mutable."""
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
    dtype = getattr(leaf, "dtype", None)
    got = f"{brief(leaf)} of dtype {dtype}"
    if not isinstance(leaf, (np.ndarray, np.generic)):
        got = brief(leaf)
        remedy = (
            "split functions, settings and variables from the arrays first "
            "(equinox.partition, nnx.split, penzai's pz.unbind_params)"
        )
    elif not dtype.isnative:
        remedy = "swap its bytes with x.astype(x.dtype.newbyteorder('='))"
    else:
        remedy = "JAX lacks this dtype: cast it, as with x.astype(np.float32), or leave it out"
    return TypeError(
        f"{name}{jax.tree_util.keystr(path)} must be an array or a number, got {got}; {remedy}."
    )


def floats_only(params: PyTree) -> PyTree:
    """`params` with None in place of every leaf that is not floating point."""
    return jax.tree.map(lambda x: x if is_float(x) else None, params)


def replace_floats(params: PyTree, floats: PyTree, other: Callable = lambda leaf: leaf) -> PyTree:
    """`floats` at the float leaves of `params`, `other(leaf)` at all others."""
    return jax.tree.map(lambda old, new: new if is_float(old) else other(old), params, floats)


def no_update(leaf) -> jax.Array | None:
    """The update of a leaf that is not perturbed: zeros, or None for keys, which cannot be added."""
    dtype = jnp.result_type(leaf)
    if jnp.issubdtype(dtype, jax.dtypes.prng_key):
        return None
    return jnp.zeros(jnp.shape(leaf), dtype)


def total_size(like: PyTree) -> int:
    """The number d of perturbed coordinates (a Python int: it may exceed 2**31)."""
    return sum(leaf.size for leaf in jax.tree.leaves(like))
