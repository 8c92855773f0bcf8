"""One estimate: values at perturbed points, a coefficient for each direction, their weighted sum.

Pass one returns scalars only. Pass two regenerates the directions from their key and adds them up, so
no direction is ever stored.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from zojax import _barriers, execution, implicit
from zojax._estimator.arguments import Losses, losses
from zojax._estimator.coefficients import (
    coefficients_dtype,
    counted,
    insert_center,
    scored,
)
from zojax._estimator.records import Choices, Estimate
from zojax._numerics import at_least, is_narrow, saturated
from zojax._sharding import sharded_like, varying_axes
from zojax._trees import PyTree, Split, no_update, split_structure, total_size


class Directions(NamedTuple):
    """The directions of one step, not yet drawn.

    Attributes:
      frame: from `Direction.frame`, shared by all directions.
      split: the shapes and dtypes of the parameters.
      like: of the float leaves alone, as directions see them.
    """

    frame: PyTree
    split: Split
    like: PyTree


def estimate(choices: Choices, fun, arrays, has_aux: bool, in_axes: Any, dtype=None) -> Estimate:
    """The estimate of one key; arrays are (key, params, args, kwargs, state, step)."""
    key, params, args, kwargs, state, step = arrays
    split = checked_structure(choices, params)
    own = losses(
        fun,
        key,
        args,
        kwargs,
        n=choices.num_directions,
        has_aux=has_aux,
        in_axes=in_axes,
        with_key=choices.with_key,
    )
    mu, this = smoothing(choices, step), begin(choices, key, split)
    values, aux = _values(choices, this, own, params, mu)
    if choices.centered:
        center, center_aux = _center(choices, this, own, params)
        values = insert_center(choices.stencil, values, center)
        aux = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), center_aux, aux)
    found = finish(choices, this, mu, values, state, aux, dtype)
    return found._replace(grads=sharded_like(found.grads, params))


def smoothing(choices: Choices, step) -> jax.Array:
    """mu of a step, a float32 scalar."""
    mu = choices.mu
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


def begin(choices: Choices, key: jax.Array, split: Split) -> Directions:
    """The directions of a key."""
    like = split.tree()
    # A clone, since a second pass makes the directions again from the same key.
    frame = choices.direction.frame(jax.random.clone(key), choices.num_directions, like)
    return Directions(frame, split, like)


def finish(
    choices: Choices, this: Directions, mu: jax.Array, values, state, aux, dtype=None
) -> Estimate:
    """The estimate from a table of values (directions, offsets)."""
    score = partial(scored, choices, coefficients_dtype(this.split.floats))
    found, state = _barriers.once(score, values, mu, state)
    grads, clipped = _weighted_sum(choices, this, found.c, dtype)
    if state is not None:
        state = state._replace(clipped=counted(state.clipped, clipped))
    return Estimate(found.value, grads, aux, found.used, state, found.c, found.flat, clipped)


def combine(choices: Choices, key, params: PyTree, coefficients, dtype=None) -> PyTree:
    """The gradient of an estimate with this key and these coefficients."""
    this = begin(choices, key, split_structure(params))
    return sharded_like(_weighted_sum(choices, this, coefficients, dtype)[0], params)


def _values(choices: Choices, this: Directions, own: Losses, params: PyTree, mu: jax.Array):
    """Values (directions, moved offsets), and the auxiliary outputs on one axis."""

    def evaluation(z, i, offset):
        hold = choices.hold_in_loops
        return implicit.evaluate(lambda p: own.at(p, i), params, z, offset * mu, hold_in_loops=hold)

    values, aux = execution.evaluate(
        lambda i: choices.direction.draw(this.frame, i, this.like),
        evaluation,
        choices.num_directions,
        choices.moved,
        _batch_size(choices, this),
    )
    return values, jax.tree.map(lambda a: a.reshape((values.size, *a.shape[2:])), aux)


def _center(choices: Choices, this: Directions, own: Losses, params: PyTree):
    """The same at x: once, or once a direction if directions have data or keys of their own."""
    count = choices.num_directions if own.differ else 1
    center, aux = execution.evaluate(
        lambda i: None,
        lambda _, i, __: own.at(params, i),
        count,
        (0.0,),
        _batch_size(choices, this),
    )
    return center, jax.tree.map(lambda a: a[:, 0], aux)


def _batch_size(choices: Choices, this: Directions) -> int | None:
    if choices.batch_size is None and not choices.direction.shares_products:
        return execution.choose_batch_size(choices.num_directions, total_size(this.split.floats))
    return choices.batch_size


def _weighted_sum(
    choices: Choices, this: Directions, coefficients: jax.Array, dtype
) -> tuple[PyTree, jax.Array]:
    """The gradient, and how many entries were clipped.

    The gradient is rounded, so that a replay of the coefficients has the same bits.
    """
    c = jnp.where(jnp.isnan(coefficients), 0, coefficients)
    combined = choices.direction.combine(this.frame, c, this.like)
    leaves, totals = this.split.floats, this.split.places_in(combined)
    dtypes = [at_least(leaf.dtype, dtype) for leaf in leaves]

    def gradient(leaf, total, dtype):
        total = _barriers.rounded(saturated(total, dtype), c[0])
        return total if leaf.sharding is None else jax.sharding.reshard(total, leaf.sharding)

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
