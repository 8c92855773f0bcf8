"""Ask and tell: the points of an estimate, and the estimate from the values that others computed."""

from dataclasses import dataclass, field

import jax
import jax.numpy as jnp

from zojax._estimator.coefficients import insert_center
from zojax._estimator.estimate import (
    begin,
    checked_structure,
    finish,
    given,
    require_points,
    slicing_axis,
    smoothing,
)
from zojax._estimator.records import Choices, Estimate, EstimatorState
from zojax._keys import as_key
from zojax._mesh_axis import MeshAxis
from zojax._numerics import accumulator_dtype, warn_of_resolution
from zojax._sharding import mesh_sharding, on_mesh, placed
from zojax._trees import PyTree, Split, no_update, split_structure


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Asked:
    """What `tell` needs to rebuild the directions of an `ask`: a key, mu, the parameters' shapes.

    For an `Adaptive` direction `given` has its memory and the float leaves of the parameters. `shardings`
    are those of float leaves on a mesh, outside `jit`; else None. `slicing` is the mesh axis over which the
    gradient is sliced, or None.
    """

    key: jax.Array
    mu: jax.Array
    given: tuple
    leaves: tuple[jax.ShapeDtypeStruct, ...] = field(metadata={"static": True})
    treedef: jax.tree_util.PyTreeDef = field(metadata={"static": True})
    shardings: tuple[jax.NamedSharding | None, ...] = field(metadata={"static": True})
    slicing: MeshAxis | None = field(metadata={"static": True})


def asked(
    choices: Choices,
    key: int | jax.Array,
    params: PyTree,
    *,
    step=0,
    state: EstimatorState | None = None,
) -> Asked:
    """`Estimator.asked`."""
    split = checked_structure(choices, params)
    leaves, own = tuple(split.leaves(split.floats)), given(choices, params, state)
    shardings = tuple(map(mesh_sharding, split.places_in(params)))
    mu, slicing = smoothing(choices, step), slicing_axis(choices, params)
    return Asked(as_key(key), mu, own, leaves, split.treedef, shardings, slicing)


def points(choices: Choices, key: jax.Array, params: PyTree, mu: jax.Array, given: tuple) -> PyTree:
    """The points of an ask on a leading axis: x if the stencil visits it, then each direction's."""
    require_points(choices)
    this = begin(choices, key, split_structure(params), given)

    def point(i, offset):
        noise = this.direction.draw(this.frame, i, this.like)
        return perturb(params, noise, offset * mu)

    offsets = jnp.asarray(choices.moved, jnp.float32)
    numbers = jnp.arange(choices.num_directions)
    found = jax.vmap(lambda i: jax.vmap(lambda o: point(i, o))(offsets))(numbers)
    found = jax.tree.map(lambda x: x.reshape((x.shape[0] * x.shape[1], *x.shape[2:])), found)
    if not choices.centered:
        return found
    return jax.tree.map(lambda p, x: jnp.concatenate([jnp.asarray(p)[None], x]), params, found)


def check_values(choices: Choices, asked: Asked, values) -> jax.Array:
    """The values of the points that `asked` stands for, as an array of float32 or better."""
    require_points(choices)
    if not isinstance(asked, Asked):
        raise TypeError(f"asked must be the second result of ask, got a {type(asked).__name__}.")
    warn_of_resolution(values)
    values = jnp.asarray(values)
    if values.shape != (choices.evaluations,):
        raise ValueError(
            f"values must have shape ({choices.evaluations},), one per point that ask gave, "
            f"got {values.shape}."
        )
    values = values.astype(accumulator_dtype(values.dtype))
    meshes = [sharding.mesh for sharding in asked.shardings if sharding is not None]
    return on_mesh(values, meshes[0]) if meshes else values


def conclude(choices: Choices, asked: Asked, values: jax.Array, state, dtype=None) -> Estimate:
    """The estimate from the values of an ask's points."""
    split = Split.of(asked.treedef.unflatten(asked.leaves))
    this = begin(choices, as_key(asked.key), split, asked.given, asked.slicing)
    moved = values[choices.centered :].reshape(choices.num_directions, -1)
    if choices.centered:
        moved = insert_center(choices.stencil, moved, values[0])
    found = finish(choices, this, asked.mu, moved, state, (), dtype)
    grads = split.places_in(found.grads)
    if asked.slicing is not None:
        grads = list(map(asked.slicing.sliced, grads, split.floats))
    grads = list(map(placed, grads, asked.shardings))
    return found._replace(grads=split.join(grads, no_update))


def perturb(params: PyTree, noise: PyTree, scale: jax.Array) -> PyTree:
    """params + scale * z, computed in float32 or better and rounded to each leaf's dtype."""

    def add(p, z):
        if z is None:
            return p
        dtype = accumulator_dtype(jnp.result_type(p))
        moved = jnp.asarray(p, dtype) + scale.astype(dtype) * z.dense().astype(dtype)
        return moved.astype(jnp.result_type(p))

    return jax.tree.map(add, params, noise)
