"""One estimate: values at perturbed points, a coefficient for each direction, their weighted sum.

Pass one returns scalars only. Pass two regenerates the directions from their key and adds them up, so
no direction is ever stored.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from zojax import _barriers, implicit, noise
from zojax._direction import Adaptive, Outcome
from zojax._estimator.arguments import losses
from zojax._estimator.coefficients import coefficients_dtype, counted, following, scored, settled
from zojax._estimator.records import Choices, Directions, Estimate, EstimatorState
from zojax._estimator.table import table
from zojax._mesh_axis import MeshAxis, find_axis, meshes_of
from zojax._numerics import at_least, is_narrow, promoting, saturated
from zojax._sharding import resharded, sharded_like, varying_axes
from zojax._trees import (
    PyTree,
    Split,
    floats_only,
    no_update,
    split_structure,
    structure_of,
    total_size,
)

# Values of a step, up to which one loop of XLA's CPU backend takes all scalars: see `_barriers.once`.
_TOGETHER = 4


def estimate(choices: Choices, fun, arrays, has_aux: bool, in_axes: Any, dtype=None) -> Estimate:
    """The estimate of one key; arrays are (key, params, args, kwargs, state, step)."""
    indices = range(choices.num_directions)
    this, mu, values, aux = _evaluated(choices, fun, arrays, indices, has_aux, in_axes)
    _, params, *_, state, _ = arrays
    found = finish(choices, this, mu, values, state, aux, dtype)
    return found._replace(grads=_sharded(this, found.grads, params))


def values(choices: Choices, fun, arrays, start: int, stop: int, in_axes: Any) -> jax.Array:
    """The values of some directions, in the order of `ask`."""
    require_points(choices)
    _, _, found, _ = _evaluated(choices, fun, arrays, range(start, stop), False, in_axes)
    if not choices.centered:
        return found.reshape(-1)
    if choices.with_key or in_axes is not None:
        raise ValueError(
            "a stencil that visits x has a value there for each direction, where these have keys or data "
            "of their own: values of several workers need a stencil such as stencils.central()."
        )
    place = choices.stencil.offsets.index(0.0)
    moved = jnp.delete(found, place, axis=1, assume_unique_indices=True).reshape(-1)
    return moved if start else jnp.concatenate([found[0, place, None], moved])


def _evaluated(choices: Choices, fun, arrays, indices: range, has_aux: bool, in_axes):
    """(directions, mu, values, aux) of some directions of the step."""
    key, params, args, kwargs, state, step = arrays
    split = checked_structure(choices, params)
    own = losses(
        fun,
        key,
        args,
        kwargs,
        indices=indices,
        has_aux=has_aux,
        in_axes=in_axes,
        with_key=choices.with_key,
    )
    mu = smoothing(choices, step)
    this = _begun(
        choices, key, params, split, state, lambda p: own.at(p, jnp.int32(indices.start))[0]
    )
    return this, mu, *table(choices, this, own, params, mu, indices)


def smoothing(choices: Choices, step) -> jax.Array:
    """mu of a step, a float32 scalar; a linear loss needs none."""
    mu = 1.0 if choices.linearize else choices.mu
    return jnp.asarray(mu(jnp.asarray(step)) if callable(mu) else mu, jnp.float32)


def checked_structure(choices: Choices, params: PyTree) -> Split:
    """Shapes and dtypes of the parameters; raises if the direction has too few dimensions."""
    split = split_structure(params)
    like, n = split.tree(), choices.num_directions
    limit = choices.direction.max_directions(like)
    if limit is not None and n > limit:
        raise ValueError(
            f"num_directions must be at most {limit} for this direction and these "
            f"{total_size(split.floats)} parameters, got {n}."
        )
    return split


def given(choices: Choices, params: PyTree, state: EstimatorState | None) -> tuple:
    """What an `Adaptive` makes its direction from, beside a key: (memory, float leaves); else ()."""
    if not isinstance(choices.direction, Adaptive):
        return ()
    floats = floats_only(params)
    memory = choices.direction.init(structure_of(floats)) if state is None else state.direction
    return memory, floats


def require_points(choices: Choices) -> None:
    """Raises ValueError for an estimate without points."""
    if choices.linearize:
        raise ValueError(
            "linearize=True differentiates the loss at x, so there are no points to evaluate elsewhere: "
            "give update a value_fn, or leave linearize out."
        )


def slicing_axis(choices: Choices, params: PyTree) -> MeshAxis | None:
    """The mesh axis over which gradients are sliced, or None."""
    if choices.axis_name is None or choices.update == "scalars":
        return None
    return find_axis(choices.axis_name, meshes_of(params))


def begin(
    choices: Choices,
    key: jax.Array,
    split: Split,
    given: tuple,
    slicing: MeshAxis | None = None,
    fun: Callable | None = None,
) -> Directions:
    """The directions of a key; `fun` is the loss of the float leaves, if there is one."""
    like = split.tree()
    # Clones, since a second pass makes the directions again from the same key.
    direction, memory = choices.direction, ()
    if isinstance(direction, Adaptive):
        memory, floats = given
        own = noise.fold_in(jax.random.clone(key), np.uint32(2**32 - 2))  # a child of no other use
        inputs = None if fun is None else implicit.Inputs(fun, floats)
        memory, direction = promoting(direction.of_step)(memory, own, floats, inputs)
    frame = direction.frame(jax.random.clone(key), choices.num_directions, like)
    return Directions(direction, memory, frame, split, like, slicing)


def _begun(choices: Choices, key, params: PyTree, split: Split, state, fun=None) -> Directions:
    """The directions of a key; `fun` is the loss of the parameters, if there is one."""
    whole = Split.of(params)

    def of_floats(floats):
        return fun(whole.join(whole.places_in(floats)))

    own, slicing = given(choices, params, state), slicing_axis(choices, params)
    return begin(choices, key, split, own, slicing, None if fun is None else of_floats)


def _sharded(this: Directions, grads: PyTree, params: PyTree) -> PyTree:
    """Gradients with the shardings of the parameters, or in slices of these."""
    if this.slicing is None:
        return sharded_like(grads, params)
    floats = map(this.slicing.sliced, this.split.places_in(grads), this.split.places_in(params))
    return this.split.join(list(floats), no_update)


def finish(
    choices: Choices, this: Directions, mu: jax.Array, values, state, aux, dtype=None
) -> Estimate:
    """The estimate from a table of values (directions, offsets)."""
    score = partial(scored, choices, coefficients_dtype(this.split.floats))
    before = None if state is None else state._replace(direction=())  # loops hold scalars only
    if values.size <= _TOGETHER:
        found, (flat, after) = _barriers.once(partial(settled, score), values, mu, before)
    else:
        found = _barriers.once(score, values, mu, before)
        flat, after = _barriers.once(following, values, mu, found, before)
    grads, clipped = _weighted_sum(this, found.c, dtype)
    if after is not None:
        memory = _learned(choices, this, state.direction, found.c, found.used, mu, grads)
        after = after._replace(clipped=counted(after.clipped, clipped), direction=memory)
    return Estimate(found.value, grads, aux, found.used, after, found.c, flat, clipped)


def combine(choices: Choices, key, params: PyTree, coefficients, state, dtype=None) -> PyTree:
    """The gradient of an estimate with this key and these coefficients."""
    this = _begun(choices, key, params, split_structure(params), state)
    return _sharded(this, _weighted_sum(this, coefficients, dtype)[0], params)


def repeat(choices: Choices, arrays, dtype=None) -> Estimate:
    """The estimate with known coefficients; arrays are (key, params, coefficients, value, state, step)."""
    key, params, coefficients, value, state, step = arrays
    this = _begun(choices, key, params, split_structure(params), state)
    grads = _sharded(this, _weighted_sum(this, coefficients, dtype)[0], params)
    used = jnp.sum(~jnp.isnan(coefficients), dtype=jnp.int32)
    mu = smoothing(choices, step)
    ok = (used > 0) & ~jnp.isnan(value)
    after = state._replace(  # the other fields count evaluations, and there are none
        skipped=state.skipped + (len(coefficients) - used),
        previous=jnp.where(ok, value, state.previous).astype(state.previous.dtype),
        started=state.started | (used > 0),
        direction=_learned(choices, this, state.direction, coefficients, used, mu, grads),
    )
    zero = jnp.int32(0)
    return Estimate(jnp.asarray(value), grads, (), used, after, coefficients, zero, zero)


def _learned(choices: Choices, this: Directions, before, coefficients, used, mu, grads) -> PyTree:
    """The memory after a step; the one before it where no direction was finite."""
    if not isinstance(choices.direction, Adaptive):
        return before
    learn = choices.direction.learn
    c = jnp.where(jnp.isnan(coefficients), 0, coefficients)

    def update(grads, before, memory, c, mu):
        new = promoting(learn)(memory, Outcome(grads, c, mu, this.frame))
        return (), jax.tree.map(lambda x, old: jnp.asarray(x, old.dtype), new, before)

    floats = this.split.tree(this.split.places_in(grads))
    # The same bits in each program, as for the state of an inner transformation.
    settled = implicit.settled_update(update, used > 0, c[0])
    return settled(floats, before, this.memory, c, mu)[1]


def _weighted_sum(this: Directions, coefficients: jax.Array, dtype) -> tuple[PyTree, jax.Array]:
    """The gradient, and how many entries were clipped.

    The gradient is rounded, so that a replay of the coefficients has the same bits.
    """
    c = jnp.where(jnp.isnan(coefficients), 0, coefficients)
    like = this.like
    if this.slicing is not None:
        like = jax.tree.map(this.slicing.slice_of, like)
    combined = this.direction.combine(this.frame, c, like)
    leaves, totals = this.split.floats, this.split.places_in(combined)
    dtypes = [at_least(leaf.dtype, dtype) for leaf in leaves]

    def gradient(leaf, total, dtype):
        grad = _barriers.rounded(saturated(total, dtype), c[0])
        return resharded(grad, leaf) if this.slicing is None else grad

    grads = list(map(gradient, leaves, totals, dtypes))
    counts = [_beyond(total, wide, c) for total, wide in zip(totals, dtypes, strict=True)]
    clipped = sum(counts, start=jnp.int32(0))
    return this.split.join(grads, no_update), clipped


def _beyond(x: jax.Array, dtype, coefficients: jax.Array) -> jax.Array:
    """How many entries `saturated` clips, on all devices that share the coefficients."""
    if not is_narrow(dtype):
        return jnp.int32(0)
    count = jnp.sum(jnp.abs(x) > float(jnp.finfo(dtype).max)).astype(jnp.int32)
    axes = tuple(varying_axes(count) - varying_axes(coefficients))
    return jax.lax.psum(count, axes) if axes else count
