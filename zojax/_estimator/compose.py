r"""One estimator, four choices: direction, stencil, shaping, execution.

    V[i, j] = f(x + mu * o_j * z_i)         i < num_directions, j < stencil points
    c       = shape(V) @ w / (mu * N)       one scalar per direction
    g       = sum_i c_i z_i

SPSA is rademacher x central; Kiefer-Wolfowitz coordinate x central with N = d; MeZO adds sgd; OpenES is
normal x central x centered_ranks.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from optax import Schedule

from zojax import stencils
from zojax._call import compiled_outside, jitted
from zojax._checks import (
    require_count,
    require_flag,
    require_kind,
    require_option,
    require_positive,
)
from zojax._direction import Adaptive, Direction
from zojax._estimator import ask_tell
from zojax._estimator.arguments import InAxes
from zojax._estimator.ask_tell import Asked
from zojax._estimator.estimate import combine, estimate, repeat, slicing_axis, values
from zojax._estimator.records import Choices, Estimate, EstimatorState, UpdateKind
from zojax._keys import as_key
from zojax._mesh_axis import MeshAxis
from zojax._numerics import float_dtype
from zojax._sharding import mesh_of
from zojax._trees import PyTree, copied, floats_only, require_arrays, require_dtypes, structure_of
from zojax.directions import rademacher
from zojax.shaping import Shaping, none
from zojax.stencils import Stencil


class Estimator(NamedTuple):
    """Pure functions that estimate a gradient; made by `zojax.estimator`.

    A copy gives the same bits and compiles its own programs. `copy.deepcopy` and cloudpickle copy any
    estimator. pickle needs a direction, shaping and schedule that can be pickled, as zojax's own can.
    Objects that hold an optax transformation, a search or an attack need cloudpickle.

    Attributes:
      init: `init(params=None) -> EstimatorState`; an `Adaptive` direction needs the parameters.
      estimate: `estimate(key, fun, params, args=(), kwargs=None, *, state=None, step=0,
        has_aux=False, in_axes=..., dtype=None) -> Estimate` of `fun(params, *args, **kwargs)`. `dtype`
        is the dtype of gradients of narrower leaves, such as float32 for float16. Outside `jit` a call
        compiles once for a function, shapes and other static values: pass an int that changes as
        `jnp.asarray(n)`.
      ask: `ask(key, params, *, step=0, state=None) -> (points, asked)`; every leaf of points has a
        leading axis of `evaluations` and the dtype of its parameter. bfloat16 points round the
        perturbation, which `estimate` does not.
      tell: `tell(asked, values, *, state=None) -> grads`, for values of shape (evaluations,).
      asked: `asked(key, params, *, step=0, state=None) -> asked` without the points.
      conclude: `conclude(asked, values, state, dtype=None) -> Estimate`, tell with the value and the next
        state.
      combine: `combine(key, params, coefficients, dtype=None, *, state=None) -> grads`, to the bit the
        gradient of the estimate with this key and these `Estimate.coefficients`; no loss is evaluated.
      repeat: `repeat(key, params, coefficients, value, state, step=0, dtype=None) -> Estimate`, the same
        with the next state, of which only fields that do not count evaluations change. With
        update="sliced", gradients of estimate, conclude, combine and repeat stay in slices.
      num_directions: N.
      evaluations: evaluations of one ask, or of one estimate without per-direction data. A direction that
        reads the loss at x itself counts one more.
      evaluate: `evaluate(key, fun, params, args=(), kwargs=None, *, directions=None, state=None, step=0,
        in_axes=...) -> values` at the points of some directions, a slice; of all by default. The values of
        consecutive slices, joined, are those that `tell` takes. x belongs to direction 0. Mapped axes have
        one slice for each of these directions.
      slicing: `slicing(params)` is the mesh axis over which gradients are sliced, or None.
      in_axes: as given to `zojax.estimator`.
      with_key: as given.
      axis_name: as given.
      scheduled: whether mu is a schedule, so that `step` matters.
      stencil: as given, in Python floats.
    """

    init: Callable[..., EstimatorState]
    estimate: Callable[..., Estimate]
    ask: Callable[..., tuple[PyTree, Asked]]
    tell: Callable[..., PyTree]
    asked: Callable[..., Asked]
    conclude: Callable[..., Estimate]
    combine: Callable[..., PyTree]
    repeat: Callable[..., Estimate]
    evaluate: Callable[..., jax.Array]
    slicing: Callable[[PyTree], MeshAxis | None]
    num_directions: int
    evaluations: int
    in_axes: InAxes
    with_key: bool
    axis_name: str | None
    scheduled: bool
    stencil: Stencil


def estimator(
    direction: Direction | Adaptive | None = None,
    stencil: Stencil | None = None,
    shaping: Shaping | None = None,
    mu: float | Schedule = 1e-3,
    num_directions: int = 1,
    batch_size: int | None = None,
    in_axes: InAxes = None,
    with_key: bool = False,
    hold_in_loops: bool | None = None,
    linearize: bool = False,
    axis_name: str | None = None,
    update: UpdateKind = "scalars",
) -> Estimator:
    r"""A gradient estimator :math:`g = \sum_i c_i z_i`, from function values alone.

    Args:
      direction: which way to step; `directions.rademacher()` by default. An `Adaptive` direction learns
        from step to step, if it gets a state, as in `zojax.zeroth_order`.
      stencil: where to evaluate; `stencils.central()` by default.
      shaping: values to weights; by default none, so that E[g] is the gradient of the smoothed loss.
      mu: smoothing radius, in units of the parameters; a float or a schedule step -> float. A step with
        a scheduled mu of zero or less leaves out every direction.
      num_directions: N, at least 1.
      batch_size: directions evaluated at once under vmap. None keeps batch_size * d below 2^19 on CPU
        (2^24 elsewhere), but takes at least one. Directions that share products (low_rank) run all at
        once, on CPU as many as keep the largest product below 2^21 entries. All choices give the same
        directions.
      in_axes: the arguments of the loss with one slice a direction. An int maps every argument but the
        parameters; a sequence has an entry for each positional argument (None for the parameters); a
        dict maps keywords. An entry holds for all arrays of its argument: unlike in `jax.vmap`, it is
        not a tree. Mapped axes have length N.
      with_key: the loss gets `key=`, one a direction, shared by its evaluations.
      hold_in_loops: whether a loop of the loss holds a perturbed copy of the dense weights that it reads in
        each iteration. None holds up to 64 MiB. False makes no copy, but noise in each iteration. See
        `zojax.implicit.evaluate`.
      linearize: evaluates the linearised loss, :math:`L(x) + \mu o\,(\nabla L(x) \cdot z)`, by one
        `jax.jvp` a direction. There is no bias, and mu has no effect. The loss must be differentiable.
      axis_name: of a mesh axis over which directions are spread: each of its D groups of devices evaluates
        N / D directions, and `batch_size` counts those of one group. The parameters lie on the mesh, or
        `jax.set_mesh` names it. The loss is traced under `jax.vmap(..., spmd_axis_name=axis_name)`.
      update: who sums the directions. "scalars": every group sums all of them, and exchanges N values.
        "sliced": every group sums all of them for 1/D of the entries of each leaf, and the inner
        transformation updates this slice. Then the updates are gathered once, in the dtypes of the
        parameters. A leaf is cut along its shortest dimension that D divides. Both have the bits of one
        device, unless an inner transformation sums over a leaf.

    Returns:
      An `Estimator`.

    Raises:
      ValueError: mu or num_directions or batch_size not positive, too few directions for the
        shaping, an ill-formed stencil, "sliced" without an axis. In an estimate: no mesh has the axis, or
        its size does not divide N.
      TypeError: num_directions or batch_size not a static int, a wrong type among the choices.

    >>> import jax, jax.numpy as jnp, zojax
    >>> central = zojax.estimator(mu=1e-2, num_directions=4)
    >>> out = central.estimate(jax.random.key(0), lambda x: jnp.sum(x**2), jnp.ones(3))
    >>> out.grads.shape, int(out.used), central.evaluations
    ((3,), 4, 8)
    """
    direction = rademacher() if direction is None else direction
    stencil = stencils.central() if stencil is None else stencil
    shaping = none() if shaping is None else shaping
    if not isinstance(direction, Adaptive):
        require_kind("direction", direction, Direction)
    require_kind("stencil", stencil, Stencil)
    require_kind("shaping", shaping, Shaping)
    stencil = stencils.validated(stencil)
    if not callable(mu):
        require_positive("mu", mu)
    require_flag("with_key", with_key)
    require_flag("linearize", linearize)
    if hold_in_loops is not None:
        require_flag("hold_in_loops", hold_in_loops)
    if not isinstance(axis_name, str | None):
        raise TypeError(f"axis_name must be the name of a mesh axis or None, got {axis_name!r}.")
    require_option("update", update, ("scalars", "sliced"))
    if update == "sliced" and axis_name is None:
        raise ValueError("update='sliced' needs axis_name, the mesh axis over which to slice.")
    n = require_count("num_directions", num_directions)
    if batch_size is not None:
        batch_size = min(require_count("batch_size", batch_size), n)
    if n < shaping.min_directions:
        raise ValueError(
            f"this shaping needs num_directions >= {shaping.min_directions}, got {n}; "
            "ask for more directions or choose another shaping."
        )
    choices = Choices(
        direction,
        stencil,
        shaping,
        mu,
        n,
        batch_size,
        with_key,
        hold_in_loops,
        linearize,
        axis_name,
        update,
    )
    return _composed(choices, in_axes)


def _composed(choices: Choices, in_axes: InAxes) -> Estimator:
    """Partials of module functions, not closures, so that an estimator can be pickled."""
    asked = partial(ask_tell.asked, choices)
    conclude = partial(_conclude, choices, jitted(partial(ask_tell.conclude, choices), (3,)))
    run = compiled_outside(partial(estimate, choices))
    # Compiled like an estimate: products and sums are contracted alike, so the bits are equal.
    combined = compiled_outside(partial(combine, choices))
    repeated = compiled_outside(partial(repeat, choices))
    composed = Estimator(
        init=partial(_init, choices),
        estimate=partial(_estimated, run, in_axes=in_axes),
        ask=partial(_ask, asked, jitted(partial(ask_tell.points, choices))),
        tell=partial(_tell, conclude),
        asked=asked,
        conclude=conclude,
        combine=partial(_combined, combined),
        repeat=partial(_repeated, repeated),
        evaluate=partial(
            _values, choices, compiled_outside(partial(values, choices)), in_axes=in_axes
        ),
        slicing=partial(slicing_axis, choices),
        num_directions=choices.num_directions,
        evaluations=choices.evaluations,
        in_axes=in_axes,
        with_key=choices.with_key,
        axis_name=choices.axis_name,
        scheduled=callable(choices.mu),
        stencil=choices.stencil,
    )
    for name, field in composed._asdict().items():
        if isinstance(field, partial):
            field.__doc__ = f"`{name}` of an estimator, described by help(zojax.Estimator)."
    return composed


def _init(choices: Choices, params: PyTree = None) -> EstimatorState:
    """The state before the first step; each field is an array of its own, which may be donated."""
    memory: PyTree = ()
    if isinstance(choices.direction, Adaptive):
        if params is None:
            raise ValueError(
                "the direction has a memory as large as the parameters say: init(params), or use the "
                "estimator in zojax.zeroth_order."
            )
        with mesh_of(params):
            memory = copied(choices.direction.init(floats_only(structure_of(params))))
    counts = dict.fromkeys(("skipped", "used", "flat", "unresolved", "clipped"), np.int32(0))
    values = dict.fromkeys(("previous", "first", "least"), np.zeros((), float_dtype()))
    fields = copied({**counts, **values, "started": np.bool_(False)})
    return EstimatorState(**fields, direction=memory)


def _arrays(key, params: PyTree, args, kwargs, state, step) -> tuple:
    """The arrays of an estimate, checked."""
    if not isinstance(args, (tuple, list)):
        raise TypeError(f"args must be a tuple of arguments of fun, got {type(args).__name__}.")
    require_arrays("params", params)
    require_dtypes("args", args)
    require_dtypes("kwargs", kwargs)
    return as_key(key), params, tuple(args), dict(kwargs or {}), state, jnp.asarray(step)


def _estimated(
    run: Callable,
    key: int | jax.Array,
    fun: Callable,
    params: PyTree,
    args: tuple | list = (),
    kwargs: dict | None = None,
    *,
    state: EstimatorState | None = None,
    step: int | jax.Array = 0,
    has_aux: bool = False,
    in_axes: InAxes = None,
    dtype=None,
) -> Estimate:
    """`Estimator.estimate`: part of a program that is being traced, else a program of its own."""
    return run(fun, _arrays(key, params, args, kwargs, state, step), has_aux, in_axes, dtype)


def _values(
    choices: Choices,
    run: Callable,
    key: int | jax.Array,
    fun: Callable,
    params: PyTree,
    args: tuple | list = (),
    kwargs: dict | None = None,
    *,
    directions: slice | None = None,
    state: EstimatorState | None = None,
    step: int | jax.Array = 0,
    in_axes: InAxes = None,
) -> jax.Array:
    """`Estimator.evaluate`."""
    directions = slice(None) if directions is None else directions
    if not isinstance(directions, slice):
        raise TypeError(f"directions must be a slice, as slice(0, 8), got {directions!r}.")
    chosen = range(choices.num_directions)[directions]
    if not chosen or chosen.step != 1:
        raise ValueError(
            f"directions must be consecutive and at least one of {choices.num_directions}, got "
            f"{directions}."
        )
    arrays = _arrays(key, params, args, kwargs, state, step)
    return run(fun, arrays, chosen.start, chosen.stop, in_axes)


def _combined(
    run: Callable, key: int | jax.Array, params: PyTree, coefficients, dtype=None, *, state=None
) -> PyTree:
    """`Estimator.combine`."""
    require_arrays("params", params)
    return run(as_key(key), params, jnp.asarray(coefficients), state, dtype)


def _repeated(
    run: Callable,
    key: int | jax.Array,
    params: PyTree,
    coefficients,
    value,
    state: EstimatorState,
    step: int | jax.Array = 0,
    dtype=None,
) -> Estimate:
    """`Estimator.repeat`."""
    require_arrays("params", params)
    arrays = as_key(key), params, jnp.asarray(coefficients), value, state, jnp.asarray(step)
    return run(arrays, dtype)


def _ask(
    asked_of: Callable,
    points: Callable,
    key: int | jax.Array,
    params: PyTree,
    *,
    step=0,
    state: EstimatorState | None = None,
) -> tuple[PyTree, Asked]:
    """`Estimator.ask`."""
    asked = asked_of(key, params, step=step, state=state)
    return points(asked.key, params, asked.mu, asked.given), asked


def _conclude(
    choices: Choices, run: Callable, asked: Asked, values, state=None, dtype=None
) -> Estimate:
    """`Estimator.conclude`."""
    return run(asked, ask_tell.check_values(choices, asked, values), state, dtype)


def _tell(conclude: Callable, asked: Asked, values, *, state=None) -> PyTree:
    """`Estimator.tell`."""
    return conclude(asked, values, state).grads
