"""A state packed into few arrays: on the host, every array adds time to the call of a program."""

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

SMALL = 2**12  # entries of an array that is cheaper to copy than to pass


@partial(jax.tree_util.register_dataclass, data_fields=["joined", "alone"], meta_fields=["layout"])
@dataclass(frozen=True)
class Packed:
    """Small arrays joined by dtype, and large arrays alone.

    `layout` has the structure of the state and, for each leaf, its shape and its dtype if it is joined.
    """

    joined: dict[str, jax.Array]
    alone: list[jax.Array]
    layout: tuple


def pack(state: Any) -> Packed:
    """The arrays of `state`, packed.

    >>> packed = pack({"a": jnp.zeros(3), "b": jnp.float32(1), "n": jnp.int32(2)})
    >>> {dtype: array.shape for dtype, array in packed.joined.items()}
    {'float32': (4,), 'int32': (1,)}
    """
    leaves, structure = jax.tree.flatten(state)
    joined: dict[str, list] = {}
    alone: list[jax.Array] = []
    kinds: list[tuple[tuple[int, ...], str | None]] = []
    for leaf in map(jnp.asarray, leaves):  # a leaf may be a Python number
        is_joined = leaf.size <= SMALL and not jnp.issubdtype(leaf.dtype, jax.dtypes.extended)
        if is_joined:
            joined.setdefault(str(leaf.dtype), []).append(lax.reshape(leaf, (leaf.size,)))
        else:
            alone.append(leaf)
        kinds.append((leaf.shape, str(leaf.dtype) if is_joined else None))
    arrays = {dtype: lax.concatenate(parts, 0) for dtype, parts in joined.items()}
    return Packed(arrays, alone, (structure, tuple(kinds)))


def unpack(packed: Packed) -> Any:
    """The state of `pack`."""
    structure, kinds = packed.layout
    alone, used, leaves = iter(packed.alone), dict.fromkeys(packed.joined, 0), []
    for shape, dtype in kinds:
        if dtype is None:
            leaves.append(next(alone))
            continue
        start = used[dtype]
        used[dtype] = stop = start + math.prod(shape)
        leaves.append(lax.reshape(lax.slice(packed.joined[dtype], (start,), (stop,)), shape))
    return structure.unflatten(leaves)
