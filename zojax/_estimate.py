"""One estimate: values at perturbed points, a coefficient for each direction, their weighted sum.

Pass one returns scalars only; pass two regenerates the directions from their key and adds them up, so
no direction is ever stored.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import export
from optax import Schedule

from zojax import _barriers, execution, implicit
from zojax._arguments import Losses, losses
from zojax._direction import Direction
from zojax._keys import as_key
from zojax._numerics import accumulator_dtype, at_least, mean_of
from zojax._sharding import varying_axes
from zojax._trees import (
    PyTree,
    floats_only,
    no_update,
    replace_floats,
    require_floats,
    structure_of,
    total_size,
)
from zojax.shaping import Shaping
from zojax.stencils import Stencil


class EstimatorState(NamedTuple):
    """What an estimator carries from step to step.

    Attributes:
      skipped: int32, directions left out so far because an evaluation was not finite.
      previous: the mean value of the last step that had one; float32, or float64 under x64.
      started: bool, whether there was such a step.
      used: int32, directions used so far. This and all below say what evaluations showed, which a
        replay does not see: `zojax.trajectory.resume` begins them anew. `zojax.verdict` reads them.
      flat: int32, the sum of `Estimate.flat`.
      unresolved: int32, directions whose values differed by rounding at most: by less than 8 units in
        the last place of float32 (float64 for float64 values), flat ones included.
      clipped: int32, the sum of `Estimate.clipped`, at most 2^31 - 1.
      first: the first `Estimate.value` that was finite; dtype as `previous`.
      least: the least of them.
    """

    skipped: jax.Array
    previous: jax.Array
    started: jax.Array
    used: jax.Array
    flat: jax.Array
    unresolved: jax.Array
    clipped: jax.Array
    first: jax.Array
    least: jax.Array


export.register_namedtuple_serialization(EstimatorState, serialized_name="zojax.EstimatorState")


class Estimate(NamedTuple):
    """The result of one estimate.

    Attributes:
      value: the loss at x where the stencil visits it, else the mean over the evaluations, of the
        directions that are finite; NaN when none is.
      grads: as the parameters; zeros for integer and bool leaves, None for keys. A float16 or float8
        leaf has its largest number (65,504) where the gradient is larger; see `clipped`.
      aux: what the loss returned beside its value, stacked over evaluations on a leading axis.
      used: int32, directions whose evaluations were all finite.
      state: the next EstimatorState.
      coefficients: c, of shape (N,); NaN for a direction that was left out, which `jax_debug_nans`
        raises. float32, or float64 where a parameter is.
      flat: int32, the used directions whose values are all equal although their points differ: mu is too
        small for the parameters or the values to resolve, or so large that x is lost in x + mu z. With a
        stencil of one point, those whose value equals the previous step's mean.
      clipped: int32, entries of `grads` that were clipped to the range of their dtype.
    """

    value: jax.Array
    grads: PyTree
    aux: PyTree
    used: jax.Array
    state: EstimatorState
    coefficients: jax.Array
    flat: jax.Array
    clipped: jax.Array


@dataclass(frozen=True, eq=False)
class Settings:
    """The choices of an estimator, as `zojax.estimator` takes and has checked them."""

    direction: Direction
    stencil: Stencil
    shaping: Shaping
    mu: float | Schedule
    num_directions: int
    batch_size: int | None
    with_key: bool

    @property
    def moved(self) -> tuple[float, ...]:
        """The offsets of the stencil away from x."""
        return tuple(o for o in self.stencil.offsets if o)

    @property
    def centered(self) -> bool:
        """Whether the stencil evaluates x itself."""
        return 0.0 in self.stencil.offsets

    @property
    def evaluations(self) -> int:
        return self.num_directions * len(self.moved) + self.centered


class Step(NamedTuple):
    """What all directions of an estimate share.

    Attributes:
      frame: what the direction keeps of the key.
      mu: float32 scalar.
      structure: shapes and dtypes of all leaves of the parameters.
      like: of the float leaves alone.
    """

    frame: PyTree
    mu: jax.Array
    structure: PyTree
    like: PyTree


def estimate(settings: Settings, fun, arrays, has_aux: bool, in_axes: Any, dtype=None) -> Estimate:
    """The estimate of one key; arrays are key, params, args, kwargs, state and step."""
    key, params, args, kwargs, state, step = arrays
    structure = checked_structure(settings, params)
    own = losses(
        fun,
        as_key(key),
        args,
        kwargs,
        n=settings.num_directions,
        has_aux=has_aux,
        in_axes=in_axes,
        with_key=settings.with_key,
    )
    this = begin(settings, key, smoothing(settings, step), structure)
    values, aux = _values(settings, this, own, params)
    if settings.centered:
        center, center_aux = _center(settings, this, own, params)
        values = insert_center(settings.stencil, values, center)
        aux = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), center_aux, aux)
    return finish(settings, this, values, state, aux, dtype)


def smoothing(settings: Settings, step) -> jax.Array:
    mu = settings.mu
    return jnp.asarray(mu(jnp.asarray(step)) if callable(mu) else mu, jnp.float32)


def checked_structure(settings: Settings, params: PyTree) -> PyTree:
    """Shapes and dtypes of the parameters, which this direction can perturb."""
    structure = _structure(params)
    like, n = floats_only(structure), settings.num_directions
    limit = settings.direction.max_directions(like)
    if limit is not None and n > limit:
        raise ValueError(
            f"num_directions must be at most {limit} for this direction and these "
            f"{total_size(like)} parameters, got {n}."
        )
    return structure


def begin(settings: Settings, key, mu: jax.Array, structure: PyTree) -> Step:
    like = floats_only(structure)
    frame = _frame(settings, key, like)
    return Step(frame, mu, structure, like)


def _frame(settings: Settings, key, like: PyTree) -> PyTree:
    # A clone: directions are made again from the same key.
    return settings.direction.frame(jax.random.clone(as_key(key)), settings.num_directions, like)


def finish(settings: Settings, this: Step, values, state, aux, dtype=None) -> Estimate:
    """The estimate from a table of values (directions, offsets)."""
    c, valid, value, mean = _coefficients(
        settings, values, this.mu, state, coefficients_dtype(this.like)
    )
    c = _barriers.settle(jnp.where(valid, c, jnp.nan))
    grads, clipped = _weighted_sum(settings, this.frame, c, this.like, this.structure, dtype)
    flat, unresolved = _equal_values(values, valid, state)
    if state is not None:
        state = _next(state, valid, value, mean)._replace(
            flat=_plus(state.flat, flat),
            unresolved=_plus(state.unresolved, unresolved),
            clipped=_plus(state.clipped, clipped),
        )
    return Estimate(value, grads, aux, jnp.sum(valid), state, c, flat, clipped)


def combine(settings: Settings, key, params: PyTree, coefficients, dtype=None) -> PyTree:
    """The gradient of an estimate with this key that had these coefficients."""
    structure = _structure(params)
    like = floats_only(structure)
    frame = _frame(settings, key, like)
    return _weighted_sum(settings, frame, coefficients, like, structure, dtype)[0]


def coefficients_dtype(like: PyTree) -> jnp.dtype:
    """float64 where a leaf is, else float32."""
    leaves = jax.tree.leaves(like)
    return jnp.result_type(
        jnp.float32, *(accumulator_dtype(jnp.result_type(leaf)) for leaf in leaves)
    )


def insert_center(stencil: Stencil, values: jax.Array, center: jax.Array) -> jax.Array:
    """The table with the value at x, one for all directions or one for each, at the place of offset 0."""
    place = stencil.offsets.index(0.0)
    center = jnp.broadcast_to(center, (len(values), 1))
    return jnp.concatenate([values[:, :place], center, values[:, place:]], axis=1)


def _values(settings: Settings, this: Step, own: Losses, params: PyTree):
    """Values (directions, moved offsets) and what the loss returned beside them, an axis for all."""
    values, aux = execution.evaluate(
        lambda i: settings.direction.draw(this.frame, i, this.like),
        lambda z, i, o: implicit.evaluate(lambda p: own.at(p, i), params, z, o * this.mu),
        settings.num_directions,
        settings.moved,
        _batch_size(settings, this.like),
    )
    return values, jax.tree.map(lambda a: a.reshape((values.size, *a.shape[2:])), aux)


def _center(settings: Settings, this: Step, own: Losses, params: PyTree):
    """The same at x: once, but where data or keys differ once for every direction."""
    count = settings.num_directions if own.differ else 1
    center, aux = execution.evaluate(
        lambda i: None,
        lambda _, i, __: own.at(params, i),
        count,
        (0.0,),
        _batch_size(settings, this.like),
    )
    return center, jax.tree.map(lambda a: a[:, 0], aux)


def _batch_size(settings: Settings, like: PyTree) -> int | None:
    if settings.batch_size is None and not settings.direction.shares_products:
        return execution.choose_batch_size(settings.num_directions, total_size(like))
    return settings.batch_size


def _weighted_sum(settings: Settings, frame, coefficients, like, structure, dtype):
    """The gradient, rounded: whoever replays these coefficients gets the same bits; entries clipped."""
    c = jnp.where(jnp.isnan(coefficients), 0, coefficients)
    totals = settings.direction.combine(frame, c, like)

    def gradient(leaf, total):
        total = _barriers.rounded(saturated(total, at_least(leaf.dtype, dtype)), c[0])
        return total if leaf.sharding is None else jax.sharding.reshard(total, leaf.sharding)

    sums = jax.tree.map(gradient, like, totals)
    counts = jax.tree.map(
        lambda leaf, total: _beyond(total, at_least(leaf.dtype, dtype), c), like, totals
    )
    clipped = sum(jax.tree.leaves(counts), start=jnp.int32(0))
    return replace_floats(structure, sums, other=no_update), clipped


def _structure(params: PyTree) -> PyTree:
    """Shapes and dtypes of all leaves, some of them floats."""
    structure = structure_of(params)
    require_floats(structure)
    return structure


def _coefficients(settings: Settings, values, mu_t, state, dtype):
    """Weights c_i, which directions are finite, the value, the mean value."""
    stencil, shaping = settings.stencil, settings.shaping
    valid = jnp.all(jnp.isfinite(values), axis=1) & (mu_t > 0)  # a schedule may end at 0
    used = jnp.sum(valid)
    table = jnp.where(valid[:, None], values, 0)
    count = jnp.maximum(used, 1).astype(table.dtype)
    mean = mean_of(table, valid)
    c = shaping.values(table, valid) @ jnp.asarray(stencil.weights, table.dtype)
    if stencil.memory:
        c = c + float(stencil.memory) * _remembered(state, mean)
    c = (shaping.coefficients(c / mu_t.astype(c.dtype), valid) / count).astype(dtype)
    c = jnp.where(valid & jnp.isfinite(c), c, 0)
    value = mean
    if settings.centered:
        value = mean_of(table, valid, axis=0)[stencil.offsets.index(0.0)]
    return c, valid, jnp.where(used > 0, value, jnp.nan), mean


def _next(state: EstimatorState, valid, value, mean) -> EstimatorState:
    """The state after a step, but for its sums of `_equal_values` and of clipped entries."""
    used = jnp.sum(valid).astype(jnp.int32)
    value, seen = value.astype(state.first.dtype), state.used > 0
    first = jnp.where(seen, state.first, value)
    least = jnp.where(seen, jnp.minimum(state.least, value), value)
    return state._replace(
        skipped=state.skipped + (len(valid) - used),
        previous=jnp.where(used > 0, mean.astype(state.previous.dtype), state.previous),
        started=state.started | (used > 0),
        used=_plus(state.used, used),
        first=jnp.where(used > 0, first, state.first),
        least=jnp.where(used > 0, least, state.least),
    )


def _equal_values(values, valid, state) -> tuple[jax.Array, jax.Array]:
    """How many directions have values that are equal, and how many that differ by rounding at most."""
    known = valid
    if values.shape[1] == 1:  # compared with the previous step
        if state is None:
            return jnp.int32(0), jnp.int32(0)
        known = valid & state.started
        before = jnp.broadcast_to(state.previous.astype(values.dtype), values.shape)
        values = jnp.concatenate([values, before], axis=1)
    values = jnp.where(known[:, None], values, 0)
    spread = jnp.max(values, axis=1) - jnp.min(values, axis=1)
    rounding = 8 * jnp.finfo(values.dtype).eps * jnp.max(jnp.abs(values), axis=1)
    counts = [jnp.sum(known & close) for close in (spread == 0, spread <= rounding)]
    return tuple(n.astype(jnp.int32) for n in counts)


def _plus(count: jax.Array, n: jax.Array) -> jax.Array:
    """A count that stays at its largest number instead of overflowing."""
    most = np.iinfo(np.int32).max
    return jnp.where(count > most - n, most, count + n).astype(jnp.int32)


def _remembered(state: EstimatorState | None, mean: jax.Array) -> jax.Array:
    """The previous step's mean value; in the first step its own."""
    if state is None:
        raise ValueError(
            "this stencil remembers the previous step and needs state=; "
            "use it inside zojax.zeroth_order, or pass state=estimator.init()."
        )
    return jnp.where(state.started, state.previous.astype(mean.dtype), mean)


def saturated(x: jax.Array, dtype) -> jax.Array:
    """Casts to a dtype; clips instead of overflowing where its range is less than float32's."""
    if _is_narrow(dtype):
        most = float(jnp.finfo(dtype).max)
        x = jnp.clip(x, -most, most)
    return x.astype(dtype)


def _beyond(x: jax.Array, dtype, coefficients: jax.Array) -> jax.Array:
    """How many entries `saturated` clips, on all devices that share the coefficients."""
    if not _is_narrow(dtype):
        return jnp.int32(0)
    count = jnp.sum(jnp.abs(x) > float(jnp.finfo(dtype).max)).astype(jnp.int32)
    axes = tuple(varying_axes(count) - varying_axes(coefficients))
    return jax.lax.psum(count, axes) if axes else count


def _is_narrow(dtype) -> bool:
    return jnp.finfo(dtype).maxexp < jnp.finfo(jnp.float32).maxexp
