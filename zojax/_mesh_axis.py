"""An axis of a mesh over which directions are spread.

A group of devices has one index along the axis. It holds the model, sharded over the other axes, and
evaluates directions of its own. `vmap` puts one direction of each group on the axis.
"""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
from jax import lax
from jax.sharding import AbstractMesh, NamedSharding, PartitionSpec

from zojax._alike import sharded_alike
from zojax._trees import PyTree


class MeshAxis(NamedTuple):
    """One axis of a mesh, by its name."""

    name: str
    mesh: AbstractMesh

    @property
    def size(self) -> int:
        return self.mesh.shape[self.name]

    @property
    def is_explicit(self) -> bool:
        return self.name in self.mesh.explicit_axes

    def spread(self, fn: Callable, indices: jax.Array) -> tuple[Callable, jax.Array]:
        """A function of rows of indices, and these rows: each has one index of every group.

        A group takes consecutive indices, so that its results lie together.
        """
        rows = indices.reshape(self.size, -1).T
        if self.is_explicit:
            return lambda row: jax.vmap(fn)(self._placed(row, self.name)), rows
        return jax.vmap(lambda i: fn(self._placed(i)), spmd_axis_name=self.name), rows

    def joined(self, results: PyTree) -> PyTree:
        """The results of rows of indices, in the order of the indices."""
        return jax.tree.map(lambda x: x.swapaxes(0, 1).reshape((-1, *x.shape[2:])), results)

    def gathered(self, x: jax.Array) -> jax.Array:
        """x on all devices, computed by groups. A single constraint would also have all compute it."""
        return self._placed(self._placed(x, self.name))

    def sliced(self, x: jax.Array, like: jax.Array | jax.ShapeDtypeStruct) -> jax.Array:
        """x, of which each group computes a slice, along the shortest dimension that fits.

        The size of the axis divides the dimension, and the type of `like` does not shard it. Without such
        a dimension each group computes all.
        """
        spec = self._sliced_spec(like)
        if spec is None:
            return self._like(x, like)
        if self.is_explicit or isinstance(like, jax.ShapeDtypeStruct):
            return self._placed(x, *spec)
        return sharded_alike(x, self._placed(like, *spec))  # sharded over other axes, as `like` is

    def slice_of(self, like: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
        """The type of a slice, where types have shardings."""
        spec = self._sliced_spec(like) if self.is_explicit else None
        if spec is None:
            return like
        return like.update(sharding=NamedSharding(self.mesh, PartitionSpec(*spec)))

    def _sliced_spec(self, like: jax.Array | jax.ShapeDtypeStruct) -> list | None:
        free = None if self.is_explicit else PartitionSpec.UNCONSTRAINED
        spec = [free if axis is None else axis for axis in _spec(like)]
        fits = [i for i, n in enumerate(like.shape) if spec[i] is free and n and n % self.size == 0]
        if not fits:
            return None
        spec[min(fits, key=lambda i: like.shape[i])] = self.name
        return spec

    def alike(self, tree: PyTree, like: PyTree) -> PyTree:
        """The arrays of a tree, each with the sharding of the array in its place. A leaf may be None."""
        return jax.tree.map(lambda p, x: x if x is None else self._like(x, p), like, tree)

    def _like(self, x: jax.Array, like: jax.Array | jax.ShapeDtypeStruct) -> jax.Array:
        if self.is_explicit:
            return self._placed(x, *_spec(like))
        return x if isinstance(like, jax.ShapeDtypeStruct) else sharded_alike(x, like)

    def _placed(self, x: jax.Array, *spec) -> jax.Array:
        place = jax.sharding.reshard if self.is_explicit else lax.with_sharding_constraint
        return place(x, NamedSharding(self.mesh, PartitionSpec(*spec)))


def _spec(like: jax.Array | jax.ShapeDtypeStruct) -> tuple:
    """The mesh axis of each dimension in the type of an array; None for automatic axes."""
    described = isinstance(like, jax.ShapeDtypeStruct)
    sharding: Any = like.sharding if described else jax.typeof(like).sharding
    spec = () if sharding is None else tuple(sharding.spec)
    return (*spec, *[None] * (len(like.shape) - len(spec)))


def meshes_of(tree: PyTree) -> list[AbstractMesh]:
    """The mesh of each array."""
    return [jax.typeof(x).sharding.mesh for x in jax.tree.leaves(tree)]


def find_axis(name: str, meshes: Iterable[AbstractMesh]) -> MeshAxis | None:
    """The axis of the current mesh, else of one of these; None where no mesh has it.

    Under `shard_map` an axis of the map is not found: each device runs a program of its own there.
    """
    current = jax.sharding.get_abstract_mesh()
    found = (m for m in (current, *meshes) if name in m.axis_names and name not in m.manual_axes)
    mesh = next(found, None)
    return None if mesh is None else MeshAxis(name, mesh)


def require_axis(name: str, meshes: Iterable[AbstractMesh], count: int) -> MeshAxis:
    """The same; raises ValueError without it, or where its size does not divide the directions."""
    axis = find_axis(name, meshes)
    if axis is None:
        current = jax.sharding.get_abstract_mesh()
        raise ValueError(
            f"axis_name={name!r} is an axis neither of the current mesh, which has {current.axis_names}, "
            "nor of the parameters' mesh: place these on a mesh with it, or call inside "
            "jax.set_mesh(mesh). Inside shard_map leave axis_name out."
            * (name in current.manual_axes)
        )
    if count % axis.size:
        raise ValueError(
            f"num_directions must be a multiple of {axis.size}, the size of the mesh axis {name!r}, "
            f"got {count}."
        )
    return axis
