"""Sharding: axes of an explicit mesh, and the axes of a `shard_map` along which arrays vary."""

import jax


def is_sharded(x) -> bool:
    """Whether the type of an array shards an axis, on a mesh with explicit axes."""
    return any(axis is not None for axis in jax.typeof(x).sharding.spec)


def varying_axes(x) -> frozenset:
    """The axes of a `shard_map` along which an array varies."""
    return jax.typeof(x).mat.varying


def varying_like(x, tree):
    """`x`, cast to vary along the axes of a `shard_map` along which the arrays of a tree vary."""
    axes = [varying_axes(leaf) for leaf in jax.tree.leaves(tree)]
    new = frozenset().union(*axes) - varying_axes(x)
    return jax.lax.pcast(x, tuple(new), to="varying") if new else x
