r"""One estimator, four choices: direction, stencil, shaping, execution.

    V[i, j] = f(x + mu * o_j * z_i)         i < num_directions, j < stencil points
    c       = shape(V) @ w / (mu * N)       one scalar per direction
    g       = sum_i c_i z_i

SPSA is rademacher x central; Kiefer-Wolfowitz coordinate x central with N = d; MeZO adds sgd; OpenES is
normal x central x centered_ranks. Pass one returns scalars only; pass two regenerates the z_i from
their key and adds them up, so no direction is ever stored.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from zojax import _barriers, execution, implicit, noise, stencils
from zojax._call import compiled_call
from zojax._types import (
    Direction,
    PyTree,
    Schedule,
    accumulator_dtype,
    as_key,
    floats_only,
    no_update,
    replace_floats,
    require_count,
    require_kind,
    require_positive,
    structure_of,
    total_size,
)
from zojax.directions import rademacher
from zojax.shaping import Shaping, none
from zojax.stencils import Stencil


class EstimatorState(NamedTuple):
    """What an estimator carries from step to step.

    Attributes:
      skipped: int32, directions left out so far because an evaluation was not finite.
      previous: float32, the mean value of the last step that had one.
      started: bool, whether there was such a step.
    """

    skipped: jax.Array
    previous: jax.Array
    started: jax.Array


class Estimate(NamedTuple):
    """The result of one estimate.

    Attributes:
      value: the loss at x where the stencil visits it, else the mean over the evaluations, of the
        directions that are finite; NaN when none is.
      grads: as the parameters; zeros for integer and bool leaves, None for keys.
      aux: what the loss returned beside its value, stacked over evaluations on a leading axis.
      used: int32, directions whose evaluations were all finite.
      state: the next EstimatorState.
      coefficients: c, of shape (N,); NaN for a direction that was left out. float32, or float64 where
        a parameter is.
    """

    value: jax.Array
    grads: PyTree
    aux: PyTree
    used: jax.Array
    state: EstimatorState
    coefficients: jax.Array


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


class Estimator(NamedTuple):
    """Pure functions that estimate a gradient; made by `zojax.estimator`.

    Attributes:
      init: `init() -> EstimatorState`.
      estimate: `estimate(key, fun, params, args=(), kwargs=None, *, state=None, step=0,
        has_aux=False, in_axes=...) -> Estimate` of `fun(params, *args, **kwargs)`. Outside `jit` it is
        compiled, once for a function and shapes.
      ask: `ask(key, params, *, step=0) -> (points, asked)`; every leaf of points has a leading axis
        of `evaluations` and the dtype of its parameter. In bfloat16 that rounds the perturbation,
        which `estimate` need not do.
      tell: `tell(asked, values, *, state=None) -> grads`, for values of shape (evaluations,).
      asked: `asked(key, params, *, step=0) -> asked` without making the points.
      conclude: `conclude(asked, values, state) -> Estimate`, tell with the value and the next state.
      combine: `combine(key, params, coefficients) -> grads`, what an estimate with this key and these
        `Estimate.coefficients` had, to the bit; nothing is evaluated.
      num_directions: N.
      evaluations: evaluations of one ask, or of one estimate without per-direction data.
      in_axes: as given to `zojax.estimator`.
      scheduled: whether mu is a schedule, so that `step` matters.
      stencil: as given.
    """

    init: Callable[[], EstimatorState]
    estimate: Callable[..., Estimate]
    ask: Callable[..., tuple[PyTree, Asked]]
    tell: Callable[..., PyTree]
    asked: Callable[..., Asked]
    conclude: Callable[..., Estimate]
    combine: Callable[..., PyTree]
    num_directions: int
    evaluations: int
    in_axes: Any
    scheduled: bool
    stencil: Stencil


def estimator(
    direction: Direction | None = None,
    stencil: Stencil | None = None,
    shaping: Shaping | None = None,
    mu: float | Schedule = 1e-3,
    num_directions: int = 1,
    batch_size: int | None = None,
    in_axes: Any = None,
    with_key: bool = False,
) -> Estimator:
    r"""A gradient estimator :math:`g = \sum_i c_i z_i`, from function values alone.

    Args:
      direction: which way to step; `directions.rademacher()` by default.
      stencil: where to evaluate; `stencils.central()` by default.
      shaping: values to weights; none by default, which leaves E[g] the gradient of the smoothed loss.
      mu: smoothing radius, in units of the parameters; a float or a schedule step -> float. At a step
        where a schedule is not positive every direction is left out.
      num_directions: N, at least 1.
      batch_size: directions evaluated at once under vmap. None: all of them where directions share
        products (low_rank), else as many as keep batch_size * d below 2^19 on CPU (2^24 elsewhere),
        at least one. All choices give the same directions.
      in_axes: which arguments of the loss carry one slice per direction, as in `jax.vmap`: an int for
        every argument but the parameters, a sequence over the positional arguments (None for the
        parameters), or a dict from keyword to axis. Mapped axes have length N.
      with_key: the loss gets `key=`, one per direction, shared by its evaluations.

    Returns:
      An `Estimator`.

    Raises:
      ValueError: mu or num_directions or batch_size not positive, too few directions for the
        shaping, an ill-formed stencil.
      TypeError: num_directions or batch_size not a static int, a wrong type among the choices.

    >>> import jax.numpy as jnp, zojax
    >>> central = zojax.estimator(mu=1e-2, num_directions=4)
    >>> out = central.estimate(jax.random.key(0), lambda x: jnp.sum(x**2), jnp.ones(3))
    >>> out.grads.shape, int(out.used), central.evaluations
    ((3,), 4, 8)
    """
    direction = rademacher() if direction is None else direction
    stencil = stencils.central() if stencil is None else stencil
    shaping = none() if shaping is None else shaping
    require_kind("direction", direction, Direction)
    require_kind("stencil", stencil, Stencil)
    require_kind("shaping", shaping, Shaping)
    stencils.validate(stencil)
    require_positive("mu", mu)
    n = require_count("num_directions", num_directions)
    if batch_size is not None:
        batch_size = min(require_count("batch_size", batch_size), n)
    if n < shaping.min_directions:
        raise ValueError(
            f"this shaping needs num_directions >= {shaping.min_directions}, got {n}; "
            "ask for more directions or choose another shaping."
        )
    moved = tuple(o for o in stencil.offsets if o)
    centered = len(moved) < len(stencil.offsets)
    default_in_axes = in_axes

    def init() -> EstimatorState:
        return EstimatorState(jnp.int32(0), jnp.float32(0), jnp.bool_(False))

    def smoothing(step):
        return jnp.asarray(mu(jnp.asarray(step)) if callable(mu) else mu, jnp.float32)

    def chosen_batch(like):
        if batch_size is not None:
            return batch_size
        return execution.choose_batch_size(n, total_size(like), direction.shares_products)

    def estimate(
        key,
        fun,
        params,
        args=(),
        kwargs=None,
        *,
        state=None,
        step=0,
        has_aux=False,
        in_axes=default_in_axes,
    ) -> Estimate:
        arrays = (as_key(key), params, tuple(args), dict(kwargs or {}), state, jnp.asarray(step))
        traced = any(isinstance(x, jax.core.Tracer) for x in jax.tree.leaves(arrays))
        run = estimate_traced if traced else estimate_compiled
        return run(fun, arrays, has_aux, in_axes)

    def estimate_traced(fun, arrays, has_aux, in_axes) -> Estimate:
        key, params, args, kwargs, state, step = arrays
        structure, like = _structures(params)
        _check_dimension(direction, n, like)
        axes = _resolve_in_axes(in_axes, args, kwargs, n)
        if with_key and "key" in kwargs:
            raise TypeError(
                "with_key=True gives the loss its key=, and so did the call; leave one of them out."
            )
        key = as_key(key)
        # The noise has the key itself, of which directions use the first children; the losses the last.
        loss_key = noise.fold_in(key, np.uint32(2**32 - 1)) if with_key else None
        frame = direction.frame(key, n, like)
        mu_t = smoothing(step)

        def at(point, i):
            a, k = _slice_arguments(axes, args, kwargs, i)
            if with_key:
                k["key"] = jax.random.fold_in(loss_key, i)
            return _scalar_loss(fun(point, *a, **k), has_aux)

        def evaluation(noise, i, offset):
            return implicit.evaluate(lambda p: at(p, i), params, noise, offset * mu_t)

        values, aux = execution.evaluate(
            lambda i: direction.draw(frame, i, like), evaluation, n, moved, chosen_batch(like)
        )
        aux = jax.tree.map(lambda a: a.reshape((-1,) + a.shape[2:]), aux)
        if centered:
            # Data and keys of its own make the loss at x differ from direction to direction.
            own_data = axes is not None or with_key
            count = n if own_data else 1
            center, center_aux = execution.evaluate(
                lambda i: None,
                lambda _, i, __: at(params, i),
                count,
                (0.0,),
                min(chosen_batch(like), count),
            )
            values = _insert_center(stencil, values, jnp.broadcast_to(center, (n, 1)))
            center_aux = jax.tree.map(lambda a: a[:, 0], center_aux)
            aux = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), center_aux, aux)
        return finish(frame, values, mu_t, like, structure, state, aux)

    estimate_compiled = compiled_call(estimate_traced)

    def finish(frame, values, mu_t, like, structure, state, aux) -> Estimate:
        dtype = coefficients_dtype(like)
        c, valid, value, state = _coefficients(stencil, shaping, values, mu_t, state, dtype)
        c = _barriers.settle(jnp.where(valid, c, jnp.nan))
        grads = weighted_sum(frame, c, like, structure)
        return Estimate(value, grads, aux, jnp.sum(valid), state, c)

    def weighted_sum(frame, coefficients, like, structure) -> PyTree:
        """The gradient, rounded: whoever replays these coefficients gets the same bits."""
        c = jnp.where(jnp.isnan(coefficients), 0, coefficients)
        sums = jax.tree.map(
            lambda leaf, total: _barriers.rounded(_cast(total, leaf.dtype), c[0]),
            like,
            direction.combine(frame, c, like),
        )
        return replace_floats(structure, sums, other=no_update)

    def combine(key, params, coefficients) -> PyTree:
        structure, like = _structures(params)
        frame = direction.frame(as_key(key), n, like)
        return weighted_sum(frame, coefficients, like, structure)

    @jax.jit
    def points_at(key, params, mu_t):
        like = _structures(params)[1]
        frame = direction.frame(as_key(key), n, like)

        def point(i, offset):
            return perturb(params, direction.draw(frame, i, like), offset * mu_t)

        offsets = jnp.asarray(moved, jnp.float32)
        points = jax.vmap(lambda i: jax.vmap(lambda o: point(i, o))(offsets))(jnp.arange(n))
        points = jax.tree.map(lambda x: x.reshape((-1,) + x.shape[2:]), points)
        if not centered:
            return points
        return jax.tree.map(lambda p, x: jnp.concatenate([jnp.asarray(p)[None], x]), params, points)

    def asked_of(key, params, *, step=0) -> Asked:
        structure, like = _structures(params)
        _check_dimension(direction, n, like)
        leaves, treedef = jax.tree.flatten(structure)
        return Asked(as_key(key), smoothing(step), tuple(leaves), treedef)

    def ask(key, params, *, step=0) -> tuple[PyTree, Asked]:
        asked = asked_of(key, params, step=step)
        return points_at(asked.key, params, asked.mu), asked

    @jax.jit
    def conclude_jitted(asked: Asked, values: jax.Array, state) -> Estimate:
        structure = asked.treedef.unflatten(asked.leaves)
        like = floats_only(structure)
        frame = direction.frame(as_key(asked.key), n, like)
        table = values[centered:].reshape(n, len(moved))
        if centered:
            table = _insert_center(stencil, table, jnp.broadcast_to(values[0], (n, 1)))
        return finish(frame, table, asked.mu, like, structure, state, ())

    def conclude(asked: Asked, values, state=None) -> Estimate:
        values = jnp.asarray(values)
        if values.shape != (evaluations,):
            raise ValueError(
                f"values must have shape ({evaluations},), one per point that ask gave, "
                f"got {values.shape}."
            )
        return conclude_jitted(asked, values.astype(accumulator_dtype(values.dtype)), state)

    def tell(asked: Asked, values, *, state=None) -> PyTree:
        return conclude(asked, values, state).grads

    evaluations = n * len(moved) + centered
    return Estimator(
        init=init,
        estimate=estimate,
        ask=ask,
        tell=tell,
        asked=asked_of,
        conclude=conclude,
        combine=combine,
        num_directions=n,
        evaluations=evaluations,
        in_axes=in_axes,
        scheduled=callable(mu),
        stencil=stencil,
    )


def perturb(params: PyTree, noise: PyTree, scale: jax.Array) -> PyTree:
    """params + scale * z, computed in float32 or better and rounded to each leaf's dtype."""

    def add(p, z):
        if z is None:
            return p
        dtype = accumulator_dtype(jnp.result_type(p))
        moved = jnp.asarray(p, dtype) + scale.astype(dtype) * z.dense().astype(dtype)
        return moved.astype(jnp.result_type(p))

    leaves, treedef = jax.tree.flatten(params)
    return treedef.unflatten(
        [add(p, z) for p, z in zip(leaves, treedef.flatten_up_to(noise), strict=True)]
    )


def _cast(total: jax.Array, dtype) -> jax.Array:
    """A sum in the dtype of its leaf: what float16 cannot hold becomes its largest number, not infinite."""
    if dtype == jnp.float16:
        limit = float(jnp.finfo(dtype).max)
        total = jnp.clip(total, -limit, limit)
    return total.astype(dtype)


def coefficients_dtype(like: PyTree) -> jnp.dtype:
    """float64 where a leaf is, else float32."""
    leaves = jax.tree.leaves(like)
    return jnp.result_type(
        jnp.float32, *(accumulator_dtype(jnp.result_type(leaf)) for leaf in leaves)
    )


def _structures(params: PyTree) -> tuple[PyTree, PyTree]:
    """Shapes and dtypes of all leaves, and of the float leaves alone."""
    structure = structure_of(params)
    like = floats_only(structure)
    if not total_size(like):
        dtypes = [str(leaf.dtype) for leaf in jax.tree.leaves(structure)]
        raise ValueError(
            f"params has no float leaf to perturb, got leaves of dtype {dtypes}; "
            "cast what should be trained to a floating dtype."
        )
    return structure, like


def _check_dimension(direction: Direction, n: int, like: PyTree) -> None:
    limit = direction.max_directions(like)
    if limit is not None and n > limit:
        raise ValueError(
            f"num_directions must be at most {limit} for this direction and these "
            f"{total_size(like)} parameters, got {n}."
        )


def _scalar_loss(out, has_aux: bool) -> tuple[jax.Array, PyTree]:
    if has_aux and not (isinstance(out, tuple) and len(out) == 2):
        raise TypeError(f"with has_aux=True the loss must return (value, aux), got {type(out)}.")
    value, aux = out if has_aux else (out, ())
    if isinstance(value, (tuple, list, dict)) or value is None:
        raise TypeError(
            f"the loss must return a scalar, got {type(value).__name__}; "
            "if it returns (value, aux), pass has_aux=True to value_and_grad or estimate; "
            "zeroth_order and minimize take the value alone."
        )
    value = jnp.asarray(value)
    if value.shape != ():
        raise ValueError(
            f"the loss must return a scalar, got shape {value.shape}; take its mean or sum."
        )
    if not jnp.issubdtype(value.dtype, jnp.floating) and not jnp.issubdtype(
        value.dtype, jnp.integer
    ):
        raise TypeError(f"the loss must return a real number, got dtype {value.dtype}.")
    return value.astype(accumulator_dtype(value.dtype)), aux


def _resolve_in_axes(in_axes, args: tuple, kwargs: dict, n: int):
    """None, or the axis (or None) of every argument: a tuple for args and a dict for kwargs."""
    if in_axes is None:
        return None
    if isinstance(in_axes, int):
        axes = (in_axes,) * len(args), dict.fromkeys(kwargs, in_axes)
    elif isinstance(in_axes, dict):
        unknown = set(in_axes) - set(kwargs)
        if unknown:
            raise ValueError(
                f"in_axes names {sorted(unknown)}, which the loss was not given by keyword; "
                f"it was given {sorted(kwargs)}."
            )
        axes = (None,) * len(args), {name: in_axes.get(name) for name in kwargs}
    else:
        in_axes = tuple(in_axes)
        if len(in_axes) != len(args) + 1 or in_axes[0] is not None:
            raise ValueError(
                "in_axes must have one entry per positional argument of the loss, None for the "
                f"parameters; got {in_axes} for {len(args) + 1} arguments."
            )
        axes = in_axes[1:], dict.fromkeys(kwargs)
    pairs = [*zip(axes[0], args, strict=True), *((axes[1][k], kwargs[k]) for k in kwargs)]
    for axis, leaf in [
        (axis, x) for axis, arg in pairs if axis is not None for x in jax.tree.leaves(arg)
    ]:
        if jnp.ndim(leaf) <= axis or jnp.shape(leaf)[axis] != n:
            raise ValueError(
                f"in_axes maps axis {axis} of an argument of shape {jnp.shape(leaf)}; that axis must "
                f"have length num_directions = {n}."
            )
    return axes


def _slice_arguments(axes, args: tuple, kwargs: dict, index):
    if axes is None:
        return args, dict(kwargs)

    def pick(axis, arg):
        if axis is None:
            return arg
        return jax.tree.map(lambda x: jnp.take(jnp.asarray(x), index, axis=axis), arg)

    positional = tuple(pick(axis, arg) for axis, arg in zip(axes[0], args, strict=True))
    return positional, {name: pick(axes[1][name], arg) for name, arg in kwargs.items()}


def _insert_center(stencil: Stencil, values: jax.Array, center: jax.Array) -> jax.Array:
    """The table with the column of offset 0 at its place."""
    place = stencil.offsets.index(0.0)
    return jnp.concatenate([values[:, :place], center, values[:, place:]], axis=1)


def _coefficients(stencil, shaping, values, mu_t, state, dtype):
    """Weights c_i, which directions are finite, the value, the next state."""
    valid = jnp.all(jnp.isfinite(values), axis=1) & (mu_t > 0)  # a schedule may end at 0
    used = jnp.sum(valid)
    table = jnp.where(valid[:, None], values, 0)
    count = jnp.maximum(used, 1).astype(table.dtype)
    mean = jnp.sum(table) / (count * table.shape[1])
    shaped = shaping.values(table, valid)
    c = shaped @ jnp.asarray(stencil.weights, table.dtype)
    if stencil.memory:
        if state is None:
            raise ValueError(
                "this stencil remembers the previous step and needs state=; "
                "use it inside zojax.zeroth_order, or pass state=estimator.init()."
            )
        last = jnp.where(state.started, state.previous.astype(mean.dtype), mean)
        c = c + stencil.memory * last
    c = (shaping.coefficients(c / mu_t.astype(c.dtype), valid) / count).astype(dtype)
    c = jnp.where(valid & jnp.isfinite(c), c, 0)
    if 0.0 in stencil.offsets:
        at_x = table[:, stencil.offsets.index(0.0)]
        value = jnp.sum(at_x) / count
    else:
        value = mean
    value = jnp.where(used > 0, value, jnp.nan)
    if state is not None:
        state = EstimatorState(
            skipped=state.skipped + (values.shape[0] - used).astype(jnp.int32),
            previous=jnp.where(used > 0, mean.astype(jnp.float32), state.previous),
            started=state.started | (used > 0),
        )
    return c, valid, value, state
