"""Sharding: axes of an explicit mesh, and the axes of a `shard_map` along which arrays vary."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from zojax._alike import replicated as replicated
from zojax._alike import sharded_alike

T = TypeVar("T")


def is_sharded(x) -> bool:
    """Whether the type of an array shards an axis, on a mesh with explicit axes."""
    return any(axis is not None for axis in jax.typeof(x).sharding.spec)


def has_explicit_axes() -> bool:
    """Whether arrays of this program have shardings in their types."""
    return bool(jax.sharding.get_abstract_mesh().explicit_axes)


def sharded_like(tree: T, like: T) -> T:
    """The arrays of a tree, each sharded as the array in its place, on a mesh with automatic axes.

    Nothing else ties noise, which comes from a key, to the shards of its parameter. A leaf may be None.
    """
    # Under `shard_map` each device has its own shard.
    if jax.sharding.get_abstract_mesh().manual_axes:
        return tree

    def alike(x, p):
        is_tied = getattr(x, "shape", None) == getattr(p, "shape", ()) and not is_sharded(x)
        return sharded_alike(x, p) if is_tied else x

    return jax.tree.map(lambda p, x: alike(x, p), like, tree)


def resharded(x: jax.Array, like: jax.ShapeDtypeStruct) -> jax.Array:
    """x with the sharding of `like`, which it has on a mesh with explicit axes."""
    return x if like.sharding is None else jax.sharding.reshard(x, like.sharding)


def made_as(sharding: jax.NamedSharding | None, make: Callable, *trees) -> jax.Array:
    """`make(*trees)`, an array of this sharding, of which each device makes its part, on explicit axes too.

    There, types replicate what `make` computes on its way. The compiler shards it, on automatic axes.
    """
    if sharding is None:
        return make(*trees)
    leaves, treedef = jax.tree.flatten(trees)
    places = [i for i, leaf in enumerate(leaves) if isinstance(leaf, jax.Array)]

    def of_arrays(*arrays):
        made = dict(zip(places, arrays, strict=True))
        return make(*treedef.unflatten(made.get(i, leaf) for i, leaf in enumerate(leaves)))

    arrays = (leaves[i] for i in places)
    return jax.sharding.auto_axes(of_arrays, out_sharding=sharding)(*arrays)


def sum_of_shards(fun: Callable, x: jax.Array) -> jax.Array:
    """The sum of `fun` of each shard of x, on explicit axes; `fun(x)` of an array in one piece."""
    if not is_sharded(x):
        return fun(x)
    sharding = jax.typeof(x).sharding
    axes = tuple(jax.tree.leaves(tuple(sharding.spec)))

    def sum_of(shard):
        return jax.lax.psum(fun(shard), axes)

    return jax.shard_map(sum_of, mesh=sharding.mesh, in_specs=sharding.spec, out_specs=jax.P())(x)


def typed_like(x: jax.Array, like: jax.Array) -> jax.Array:
    """x with the sharding in the type of another array, on a mesh with explicit axes."""
    own, wanted = jax.typeof(x).sharding, jax.typeof(like).sharding
    if own.spec == wanted.spec:
        return x
    return jax.sharding.reshard(x, own.update(spec=wanted.spec) if wanted.mesh.empty else wanted)


def mesh_sharding(x) -> jax.NamedSharding | None:
    """How an array lies on a mesh of several devices; None for others, and inside `jit`."""
    if not isinstance(x, jax.Array) or isinstance(x, jax.core.Tracer):
        return None
    sharding = x.sharding
    if not isinstance(sharding, jax.NamedSharding) or sharding.num_devices == 1:
        return None
    return sharding


def mesh_of(tree) -> AbstractContextManager:
    """A context in which arrays can have the shardings of a tree, outside of `jit` and `set_mesh`."""
    meshes = (
        getattr(mesh_sharding(x), "mesh", None) for x in jax.tree.leaves(tree) if is_sharded(x)
    )
    mesh = next((mesh for mesh in meshes if isinstance(mesh, jax.sharding.Mesh)), None)
    return nullcontext() if mesh is None or has_explicit_axes() else jax.set_mesh(mesh)


def full_like(
    like: jax.ShapeDtypeStruct, value: float, dtype, copies: int | None = None
) -> jax.Array:
    """An array of one value, shaped and, on explicit axes, sharded as `like`; or so many copies."""
    shape, sharding = like.shape, like.sharding
    if copies is not None:
        shape = (copies, *shape)
        sharding = sharding and sharding.update(spec=(None, *sharding.spec))
    return jnp.full(shape, value, dtype, out_sharding=sharding)


def spans_processes(x) -> bool:
    """Whether an array has shards in other processes, outside of `jit`."""
    return (
        isinstance(x, jax.Array)
        and not isinstance(x, jax.core.Tracer)
        and not x.is_fully_addressable
    )


def on_host(x) -> np.ndarray:
    """The whole array; a collective of all processes if each has shards of it."""
    if spans_processes(x) and not x.is_fully_replicated:
        from jax.experimental.multihost_utils import process_allgather

        x = process_allgather(x, tiled=True)
    return np.asarray(x)


def on_mesh(x: jax.Array, mesh: jax.sharding.Mesh | jax.sharding.AbstractMesh) -> jax.Array:
    """A copy of x on every device, so that a program of x runs on the mesh."""
    if isinstance(x, jax.core.Tracer):
        return x
    return jax.device_put(x, jax.NamedSharding(mesh, jax.P()))


def placed(x: jax.Array, sharding: jax.NamedSharding | None) -> jax.Array:
    """x, laid out like that on a mesh with automatic axes."""
    if sharding is None or is_sharded(x):
        return x
    return jax.lax.with_sharding_constraint(x, sharding)


def varying_axes(x) -> frozenset:
    """The axes of a `shard_map` along which an array varies."""
    return jax.typeof(x).mat.varying


def varying_like(x, tree):
    """`x`, cast to vary along the axes of a `shard_map` along which the arrays of a tree vary."""
    axes = [varying_axes(leaf) for leaf in jax.tree.leaves(tree)]
    new = frozenset().union(*axes) - varying_axes(x)
    return jax.lax.pcast(x, tuple(new), to="varying") if new else x
