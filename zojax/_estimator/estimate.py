"""One estimate: values at perturbed points, a coefficient for each direction, their weighted sum.

Pass one returns scalars only. Pass two regenerates the directions from their key and adds them up, so
no direction is ever stored.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from zojax import _barriers, execution, implicit, noise
from zojax._direction import Adaptive, Direction, Outcome
from zojax._estimator.arguments import Losses, losses
from zojax._estimator.coefficients import (
    coefficients_dtype,
    counted,
    insert_center,
    scored,
)
from zojax._estimator.records import Choices, Estimate, EstimatorState
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


class Directions(NamedTuple):
    """The directions of one step, not yet drawn.

    Attributes:
      direction: of this step.
      memory: of an `Adaptive`, after `begin`.
      frame: from `Direction.frame`, shared by all directions.
      split: the shapes and dtypes of the parameters.
      like: of the float leaves alone, as directions see them.
    """

    direction: Direction
    memory: PyTree
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
    mu = smoothing(choices, step)
    this = begin(choices, key, split, given(choices, params, state))
    table = _linearized if choices.linearize else _evaluated
    values, aux = table(choices, this, own, params, mu)
    found = finish(choices, this, mu, values, state, aux, dtype)
    return found._replace(grads=sharded_like(found.grads, params))


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


def begin(choices: Choices, key: jax.Array, split: Split, given: tuple) -> Directions:
    """The directions of a key."""
    like = split.tree()
    # Clones, since a second pass makes the directions again from the same key.
    direction, memory = choices.direction, ()
    if isinstance(direction, Adaptive):
        memory, floats = given
        own = noise.fold_in(jax.random.clone(key), np.uint32(2**32 - 2))  # a child of no other use
        memory = promoting(direction.begin)(memory, own, floats)
        direction = direction.direction(memory, floats)
    frame = direction.frame(jax.random.clone(key), choices.num_directions, like)
    return Directions(direction, memory, frame, split, like)


def finish(
    choices: Choices, this: Directions, mu: jax.Array, values, state, aux, dtype=None
) -> Estimate:
    """The estimate from a table of values (directions, offsets)."""
    score = partial(scored, choices, coefficients_dtype(this.split.floats))
    before = None if state is None else state._replace(direction=())  # the loop holds scalars only
    found, after = _barriers.once(score, values, mu, before)
    grads, clipped = _weighted_sum(this, found.c, dtype)
    if after is not None:
        memory = _learned(choices, this, state.direction, found.c, found.used, mu, grads)
        after = after._replace(clipped=counted(after.clipped, clipped), direction=memory)
    return Estimate(found.value, grads, aux, found.used, after, found.c, found.flat, clipped)


def combine(choices: Choices, key, params: PyTree, coefficients, state, dtype=None) -> PyTree:
    """The gradient of an estimate with this key and these coefficients."""
    this = begin(choices, key, split_structure(params), given(choices, params, state))
    return sharded_like(_weighted_sum(this, coefficients, dtype)[0], params)


def repeat(choices: Choices, arrays, dtype=None) -> Estimate:
    """The estimate with known coefficients; arrays are (key, params, coefficients, value, state, step)."""
    key, params, coefficients, value, state, step = arrays
    this = begin(choices, key, split_structure(params), given(choices, params, state))
    grads = sharded_like(_weighted_sum(this, coefficients, dtype)[0], params)
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


def _evaluated(choices: Choices, this: Directions, own: Losses, params: PyTree, mu: jax.Array):
    """The table of values (directions, offsets), and the auxiliary outputs on one axis."""
    values, aux = _values(choices, this, own, params, mu)
    if not choices.centered:
        return values, aux
    center, center_aux = _center(choices, this, own, params)
    aux = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), center_aux, aux)
    return insert_center(choices.stencil, values, center), aux


def _linearized(choices: Choices, this: Directions, own: Losses, params: PyTree, mu: jax.Array):
    """The same for the linearised loss, L(x) + mu o (grad L(x) . z): one jvp a direction."""

    def evaluation(z, i, offset):
        def along(scale):
            return implicit.evaluate(
                lambda p: own.at(p, i), params, z, scale, hold_in_loops=choices.hold_in_loops
            )

        value, slope, aux = jax.jvp(along, (0 * offset,), (jnp.ones_like(offset),), has_aux=True)
        return (value, slope), aux

    (value, slope), aux = _at_each(choices, this, evaluation, (1.0,))
    offsets = jnp.asarray(choices.stencil.offsets, value.dtype)
    steps = mu.astype(value.dtype) * offsets[None]
    return value + steps * slope, jax.tree.map(lambda a: a[:, 0], aux)


def _at_each(choices: Choices, this: Directions, evaluation, offsets: tuple[float, ...]):
    """`execution.evaluate` over the directions of the step."""

    def draw(i):
        return this.direction.draw(this.frame, i, this.like)

    n, batch_size = choices.num_directions, _batch_size(choices, this)
    return execution.evaluate(draw, evaluation, n, offsets, batch_size)


def _values(choices: Choices, this: Directions, own: Losses, params: PyTree, mu: jax.Array):
    """Values (directions, moved offsets), and the auxiliary outputs on one axis."""

    def evaluation(z, i, offset):
        hold = choices.hold_in_loops
        return implicit.evaluate(lambda p: own.at(p, i), params, z, offset * mu, hold_in_loops=hold)

    values, aux = _at_each(choices, this, evaluation, choices.moved)
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
    if choices.batch_size is None and not this.direction.shares_products:
        return execution.choose_batch_size(choices.num_directions, total_size(this.split.floats))
    return choices.batch_size


def _weighted_sum(this: Directions, coefficients: jax.Array, dtype) -> tuple[PyTree, jax.Array]:
    """The gradient, and how many entries were clipped.

    The gradient is rounded, so that a replay of the coefficients has the same bits.
    """
    c = jnp.where(jnp.isnan(coefficients), 0, coefficients)
    combined = this.direction.combine(this.frame, c, this.like)
    leaves, totals = this.split.floats, this.split.places_in(combined)
    dtypes = [at_least(leaf.dtype, dtype) for leaf in leaves]

    def gradient(leaf, total, dtype):
        return resharded(_barriers.rounded(saturated(total, dtype), c[0]), leaf)

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
