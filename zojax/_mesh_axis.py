"""An axis of a mesh over which directions are spread.

A group of devices has one index along the axis. It holds the model, sharded over the other axes, and
evaluates directions of its own. `vmap` puts one direction of each group on the axis.
"""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import AbstractMesh, NamedSharding
from jax.sharding import PartitionSpec as P

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

    def on_all(self, x: jax.Array) -> jax.Array:
        """x, computed by groups, on all devices. A single constraint would have each group compute all."""
        return self._placed(self._placed(x, self.name))

    def sliced(self, x: jax.Array, like: jax.Array | jax.ShapeDtypeStruct) -> jax.Array:
        """x, of which each group computes one slice, sharded over the other axes as `like`."""
        dimension = self._dimension(like)
        if dimension is None:
            return self._like(x, like)
        if self.is_explicit or isinstance(like, jax.ShapeDtypeStruct):
            return self._placed(x, *self._sliced_spec(like, dimension))
        slices = self._placed(self._whole(like), *self._sliced_spec(like, dimension))
        return sharded_alike(x, slices)

    def slice_of(self, like: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
        """The type of a slice, on a mesh whose axes are part of types."""
        dimension = self._dimension(like) if self.is_explicit else None
        if dimension is None:
            return like
        spec = P(*self._sliced_spec(like, dimension))
        return like.update(sharding=NamedSharding(self.mesh, spec))

    def gathered(self, tree: PyTree, like: PyTree) -> PyTree:
        """Slices put together, sharded as the arrays in their places. A leaf may be None."""

        def together(like, x):
            if x is None:
                return None
            if self.is_explicit:
                return self._like(x, like)
            # Bits, since XLA's CPU backend gathers narrow floats as float32.
            bits = lax.bitcast_convert_type(x, jnp.dtype(f"uint{8 * x.dtype.itemsize}"))
            return self._like(lax.bitcast_convert_type(self._whole(bits), x.dtype), like)

        return jax.tree.map(together, like, tree)

    def _dimension(self, like: jax.Array | jax.ShapeDtypeStruct) -> int | None:
        """The shortest dimension that the size of the axis divides, and the type does not shard."""
        spec = _spec(like)
        fits = [i for i, n in enumerate(like.shape) if spec[i] is None and n and n % self.size == 0]
        return min(fits, key=lambda i: like.shape[i], default=None)

    def _sliced_spec(self, like: jax.Array | jax.ShapeDtypeStruct, dimension: int) -> list:
        spec = list(_spec(like)) if self.is_explicit else [P.UNCONSTRAINED] * len(like.shape)
        spec[dimension] = self.name
        return spec

    def _like(self, x: jax.Array, like: jax.Array | jax.ShapeDtypeStruct) -> jax.Array:
        if self.is_explicit:
            return self._placed(x, *_spec(like))
        return x if isinstance(like, jax.ShapeDtypeStruct) else sharded_alike(x, like)

    def _whole(self, x: jax.Array) -> jax.Array:
        """x, of which every group has all. The compiler shards over the other axes."""
        same = jax.shard_map(
            lambda x: x,
            mesh=self.mesh,
            in_specs=P(),
            out_specs=P(),
            axis_names={self.name},
            check_vma=False,
        )
        return same(x)

    def _placed(self, x: jax.Array, *spec) -> jax.Array:
        place = jax.sharding.reshard if self.is_explicit else lax.with_sharding_constraint
        return place(x, NamedSharding(self.mesh, P(*spec)))


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
        )
    if count % axis.size:
        raise ValueError(
            f"num_directions must be a multiple of {axis.size}, the size of the mesh axis {name!r}, "
            f"got {count}."
        )
    return axis
