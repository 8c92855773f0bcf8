"""The points of an estimate for whoever evaluates them elsewhere, and the estimate from their values."""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp

from zojax._estimate import (
    Estimate,
    Settings,
    begin,
    checked_structure,
    finish,
    insert_center,
    smoothing,
)
from zojax._keys import as_key
from zojax._numerics import accumulator_dtype, warn_of_resolution
from zojax._trees import PyTree, structure_of


@partial(
    jax.tree_util.register_dataclass, data_fields=["key", "mu"], meta_fields=["leaves", "treedef"]
)
@dataclass(frozen=True)
class Asked:
    """What `tell` needs to rebuild the directions of an `ask`: a key, mu, the parameters' shapes."""

    key: jax.Array
    mu: jax.Array
    leaves: tuple[jax.ShapeDtypeStruct, ...]
    treedef: jax.tree_util.PyTreeDef


def asked(settings: Settings, key, params: PyTree, *, step=0) -> Asked:
    leaves, treedef = jax.tree.flatten(checked_structure(settings, params))
    return Asked(as_key(key), smoothing(settings, step), tuple(leaves), treedef)


def points(settings: Settings, key, params: PyTree, mu: jax.Array) -> PyTree:
    """The points of an ask, on a leading axis: x, where the stencil has it, then direction by direction."""
    this = begin(settings, key, mu, structure_of(params))

    def point(i, offset):
        noise = settings.direction.draw(this.frame, i, this.like)
        return perturb(params, noise, offset * mu)

    offsets = jnp.asarray(settings.moved, jnp.float32)
    numbers = jnp.arange(settings.num_directions)
    found = jax.vmap(lambda i: jax.vmap(lambda o: point(i, o))(offsets))(numbers)
    found = jax.tree.map(lambda x: x.reshape((x.shape[0] * x.shape[1], *x.shape[2:])), found)
    if not settings.centered:
        return found
    return jax.tree.map(lambda p, x: jnp.concatenate([jnp.asarray(p)[None], x]), params, found)


def check_values(settings: Settings, asked: Asked, values) -> jax.Array:
    if not isinstance(asked, Asked):
        raise TypeError(f"asked must be the second result of ask, got a {type(asked).__name__}.")
    warn_of_resolution(values)
    values = jnp.asarray(values)
    if values.shape != (settings.evaluations,):
        raise ValueError(
            f"values must have shape ({settings.evaluations},), one per point that ask gave, "
            f"got {values.shape}."
        )
    return values.astype(accumulator_dtype(values.dtype))


def conclude(settings: Settings, asked: Asked, values: jax.Array, state, dtype=None) -> Estimate:
    """The estimate from the values of an ask's points."""
    structure = asked.treedef.unflatten(asked.leaves)
    this = begin(settings, asked.key, asked.mu, structure)
    moved = values[settings.centered :].reshape(settings.num_directions, -1)
    if settings.centered:
        moved = insert_center(settings.stencil, moved, values[0])
    return finish(settings, this, moved, state, (), dtype)


def perturb(params: PyTree, noise: PyTree, scale: jax.Array) -> PyTree:
    """params + scale * z, computed in float32 or better and rounded to each leaf's dtype."""

    def add(p, z):
        if z is None:
            return p
        dtype = accumulator_dtype(jnp.result_type(p))
        moved = jnp.asarray(p, dtype) + scale.astype(dtype) * z.dense().astype(dtype)
        return moved.astype(jnp.result_type(p))

    return jax.tree.map(add, params, noise)
