r"""One estimator, four choices: direction, stencil, shaping, execution.

    V[i, j] = f(x + mu * o_j * z_i)         i < num_directions, j < stencil points
    c       = shape(V) @ w / (mu * N)       one scalar per direction
    g       = sum_i c_i z_i

SPSA is rademacher x central; Kiefer-Wolfowitz coordinate x central with N = d; MeZO adds sgd; OpenES is
normal x central x centered_ranks.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax.numpy as jnp
from optax import Schedule

from zojax import _ask_tell, _estimate, stencils
from zojax._ask_tell import Asked
from zojax._call import compiled_outside, jitted
from zojax._checks import require_count, require_flag, require_kind, require_positive
from zojax._direction import Direction
from zojax._estimate import Estimate, EstimatorState, Settings
from zojax._keys import as_key
from zojax._trees import PyTree, require_arrays, require_dtypes
from zojax.directions import rademacher
from zojax.shaping import Shaping, none
from zojax.stencils import Stencil


class Estimator(NamedTuple):
    """Pure functions that estimate a gradient; made by `zojax.estimator`.

    A copy gives the same bits and compiles its own programs: by `copy.deepcopy`, by cloudpickle, and by
    pickle where its direction, shaping and schedule can be pickled, as those of zojax can. What holds optax
    transformations, searches and rounds of attacks need cloudpickle.

    Attributes:
      init: `init() -> EstimatorState`.
      estimate: `estimate(key, fun, params, args=(), kwargs=None, *, state=None, step=0,
        has_aux=False, in_axes=..., dtype=None) -> Estimate` of `fun(params, *args, **kwargs)`; `dtype`
        is that of gradients of narrower leaves, such as float32 for float16. Outside `jit` it is
        compiled, once for a function, shapes, and what is no array: pass an int that changes as
        `jnp.asarray(n)`.
      ask: `ask(key, params, *, step=0) -> (points, asked)`; every leaf of points has a leading axis
        of `evaluations` and the dtype of its parameter. In bfloat16 that rounds the perturbation,
        which `estimate` need not do.
      tell: `tell(asked, values, *, state=None) -> grads`, for values of shape (evaluations,).
      asked: `asked(key, params, *, step=0) -> asked` without making the points.
      conclude: `conclude(asked, values, state, dtype=None) -> Estimate`, tell with the value and the next
        state.
      combine: `combine(key, params, coefficients, dtype=None) -> grads`, what an estimate with this key
        and these `Estimate.coefficients` had, to the bit; nothing is evaluated.
      num_directions: N.
      evaluations: evaluations of one ask, or of one estimate without per-direction data.
      in_axes: as given to `zojax.estimator`.
      with_key: as given.
      scheduled: whether mu is a schedule, so that `step` matters.
      stencil: as given, in Python floats.
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
    with_key: bool
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
      batch_size: directions evaluated at once under vmap. None: as many as keep batch_size * d below
        2^19 on CPU (2^24 elsewhere), at least one; where directions share products (low_rank) all of
        them, on CPU as many as keep the largest product below 2^21 entries. All choices give the same
        directions.
      in_axes: which arguments of the loss carry one slice per direction: an int for every argument but
        the parameters, a sequence over the positional arguments (None for the parameters), or a dict from
        keyword to axis. One int or None holds for all arrays of an argument, unlike in `jax.vmap`, where
        it may be a tree. Mapped axes have length N.
      with_key: the loss gets `key=`, one per direction, shared by its evaluations.

    Returns:
      An `Estimator`.

    Raises:
      ValueError: mu or num_directions or batch_size not positive, too few directions for the
        shaping, an ill-formed stencil.
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
    require_kind("direction", direction, Direction)
    require_kind("stencil", stencil, Stencil)
    require_kind("shaping", shaping, Shaping)
    stencil = stencils.validated(stencil)
    if not callable(mu):
        require_positive("mu", mu)
    require_flag("with_key", with_key)
    n = require_count("num_directions", num_directions)
    if batch_size is not None:
        batch_size = min(require_count("batch_size", batch_size), n)
    if n < shaping.min_directions:
        raise ValueError(
            f"this shaping needs num_directions >= {shaping.min_directions}, got {n}; "
            "ask for more directions or choose another shaping."
        )
    settings = Settings(direction, stencil, shaping, mu, n, batch_size, with_key)
    # Partials of functions of the module, not closures, so that an estimator can be pickled.
    asked = partial(_ask_tell.asked, settings)
    conclude = partial(_conclude, settings, jitted(partial(_ask_tell.conclude, settings), (3,)))
    run = compiled_outside(partial(_estimate.estimate, settings))
    # Compiled, as an estimate is: products and sums are then contracted alike, and bits equal.
    combined = compiled_outside(partial(_estimate.combine, settings))
    return Estimator(
        init=_init,
        estimate=partial(_estimated, run, in_axes=in_axes),
        ask=partial(_ask, asked, jitted(partial(_ask_tell.points, settings))),
        tell=partial(_tell, conclude),
        asked=asked,
        conclude=conclude,
        combine=partial(_combine, combined),
        num_directions=n,
        evaluations=settings.evaluations,
        in_axes=in_axes,
        with_key=with_key,
        scheduled=callable(mu),
        stencil=stencil,
    )


def _init() -> EstimatorState:
    """The state before the first step."""
    count, value = partial(jnp.int32, 0), partial(jnp.zeros, (), float)
    return EstimatorState(
        skipped=count(),
        previous=value(),
        started=jnp.bool_(False),
        used=count(),
        flat=count(),
        unresolved=count(),
        clipped=count(),
        first=value(),
        least=value(),
    )


def _estimated(
    run: Callable,
    key,
    fun,
    params,
    args=(),
    kwargs=None,
    *,
    state=None,
    step=0,
    has_aux=False,
    in_axes=None,
    dtype=None,
) -> Estimate:
    """`Estimator.estimate`: part of the program that is being traced, else a program of its own."""
    if not isinstance(args, (tuple, list)):
        raise TypeError(f"args must be a tuple of arguments of fun, got {type(args).__name__}.")
    require_arrays("params", params)
    require_dtypes("args", args)
    require_dtypes("kwargs", kwargs)
    arrays = (as_key(key), params, tuple(args), dict(kwargs or {}), state, jnp.asarray(step))
    return run(fun, arrays, has_aux, in_axes, dtype)


def _combine(run: Callable, key, params, coefficients, dtype=None) -> PyTree:
    """`Estimator.combine`."""
    require_arrays("params", params)
    return run(as_key(key), params, jnp.asarray(coefficients), dtype)


def _ask(asked_of: Callable, points: Callable, key, params, *, step=0) -> tuple[PyTree, Asked]:
    """`Estimator.ask`."""
    asked = asked_of(key, params, step=step)
    return points(asked.key, params, asked.mu), asked


def _conclude(
    settings: Settings, run: Callable, asked: Asked, values, state=None, dtype=None
) -> Estimate:
    """`Estimator.conclude`."""
    return run(asked, _ask_tell.check_values(settings, asked, values), state, dtype)


def _tell(conclude: Callable, asked: Asked, values, *, state=None) -> PyTree:
    """`Estimator.tell`."""
    return conclude(asked, values, state).grads
