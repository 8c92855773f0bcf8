"""`zeroth_order`: an estimator as an optax gradient transformation.

The gradient source wraps the chain that consumes it: an optax chain cannot hand `value` or `grad` from
one stage to the next, and `partition`, `masked`, `MultiSteps` and `apply_if_finite` outside a source
would hide the parameters from the loss, reuse its key, or look at updates that do not exist yet. All of
them belong inside: `zeroth_order(optax.MultiSteps(optax.adam(1e-3), 4), ...)`.
"""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from zojax import _barriers, implicit, noise
from zojax._call import Same, compiled_call, compiled_outside
from zojax._estimate import Estimate, EstimatorState, coefficients_dtype, saturated
from zojax._estimator import Estimator
from zojax._estimator import estimator as make_estimator
from zojax._types import (
    PyTree,
    as_key,
    at_least,
    float_dtype,
    floats_only,
    is_float,
    no_update,
    replace_floats,
    warn_of_resolution,
)


class ZerothOrderState(NamedTuple):
    """State of `zeroth_order`.

    Attributes:
      rng_key: the key of the run; step t uses `fold_in(rng_key, t)`, so any step can be replayed.
      count: int32, steps taken.
      value: the last step's value (`Estimate.value`), float32, or float64 under x64; NaN when no
        direction was finite.
      estimator_state: directions skipped, the memory of the stencil, and what `zojax.verdict` reads.
      inner_state: state of the inner transformation.
      coefficients: the last step's `Estimate.coefficients`: with the key, all that its update came from.
    """

    rng_key: jax.Array
    count: jax.Array
    value: jax.Array
    estimator_state: EstimatorState
    inner_state: optax.OptState
    coefficients: jax.Array


class ZerothOrder(optax.GradientTransformationExtraArgs):
    """An optax transformation that also carries its `estimator`, for ask/tell loops, and `replay`.

    `replay(state, params, coefficients, value=nan) -> (updates, state)` is the update of the step that
    had these `ZerothOrderState.coefficients`, to the bit, without a loss: see `zojax.trajectory`.

    Attributes:
      init: `init(params) -> ZerothOrderState`.
      update: `update(None, state, params, *, value_fn, **extras) -> (updates, state)`, or with `values`.
      estimator: the `Estimator`.
      replay: as above.
    """

    estimator: Estimator
    replay: Callable

    def __new__(cls, init, update, estimator, replay):
        self = super().__new__(cls, init, update)
        self.estimator = estimator
        self.replay = replay
        return self

    def __getnewargs__(self):  # for copies
        return self.init, self.update, self.estimator, self.replay


# As a pytree it is what any optax transformation is, its two functions.
jax.tree_util.register_pytree_node(
    ZerothOrder,
    lambda tx: ((tx.init, tx.update), (Same(tx.estimator), Same(tx.replay))),
    lambda rest, functions: ZerothOrder(*functions, *(same.value for same in rest)),
)


def zeroth_order(
    inner: optax.GradientTransformation | None = None,
    estimator: Estimator | None = None,
    key: int | jax.Array = 0,
    inner_dtype: Any = None,
) -> ZerothOrder:
    """Feeds `inner` with gradients estimated from values of `value_fn`.

    `update(None, state, params, value_fn=loss, **extras)` calls `loss(params, **extras)` at perturbed
    parameters; the updates passed in are ignored. `inner` is given the float leaves of the parameters,
    and `value`, `grad` and `value_fn`, as line searches and `polyak_sgd` expect. With
    `update(None, state, params, values=values)` the evaluations come from outside, at the points of
    `estimator.ask(fold_in(state.rng_key, state.count), params, step=state.count)`.

    When no direction has a finite evaluation the update is zero, `inner` does not step, and
    `state.value` is NaN; directions left out are counted in `state.estimator_state.skipped`.

    What stands before it in an optax chain is ignored too: put it inside,
    `zeroth_order(optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(0.1)))`. What wants other parameters
    than the loss (`optax.lookahead`) or gradients at other points (`optax.contrib.sam`) is no `inner`: give
    it those of `zojax.value_and_grad`.

    Outside `jit` an update is compiled, once for a function, shapes, and extras that are no arrays: pass an
    int that changes as `jnp.asarray(step)`. As under `jax.jit`, what the loss
    reads beside its arguments is read when it is traced: pass what changes as extras. The attributes of
    an object that is called, or whose method is, are looked at again, at the price of a compilation when
    one is new.

    Gradients have the dtypes of the parameters. In float16 and float8 an entry beyond their range (65,504
    in float16) is clipped to it, and `state.estimator_state.clipped` counts these entries; a norm of such
    gradients may overflow, so that `optax.clip_by_global_norm` gives zeros. With
    `inner_dtype=jnp.float32` nothing is clipped before the updates.

    Args:
      inner: any optax transformation; the identity by default, so that the estimate itself is the
        update and the transformation can head a chain.
      estimator: how to estimate; `zojax.estimator()` by default.
      key: of the run.
      inner_dtype: the dtype of what `inner` is given of narrower float leaves, gradients and parameters,
        and so of its state; its updates are cast to the dtypes of the parameters, clipped to their
        range. None: the dtypes of the parameters.

    Returns:
      A `ZerothOrder`: a `GradientTransformationExtraArgs` with the attribute `estimator`. Updates have
      the structure of the parameters: zeros at integer and bool leaves, None at keys (use
      `zojax.apply_updates`).

    Raises:
      ValueError: no params, a loss that is not scalar, or a state with another number of directions.
      TypeError: a state that is none, an estimator in the place of `inner`, no value_fn, or an extra that
        it does not take; an `inner_dtype` that is no float.

    >>> import jax.numpy as jnp, optax, zojax
    >>> tx = zojax.zeroth_order(optax.adam(0.1), zojax.estimator(num_directions=8), key=0)
    >>> params = jnp.array([1.0, -2.0])
    >>> state = tx.init(params)
    >>> loss = lambda x, target: jnp.sum((x - target) ** 2)
    >>> for _ in range(100):
    ...     updates, state = tx.update(None, state, params, value_fn=loss, target=3.0)
    ...     params = optax.apply_updates(params, updates)
    >>> bool(jnp.all(jnp.abs(params - 3) < 0.5))
    True
    """
    inner = optax.identity() if inner is None else inner
    if isinstance(inner, Estimator):
        raise TypeError(
            "inner must be an optax transformation, got an estimator; "
            "pass it by name, zeroth_order(estimator=...)."
        )
    if isinstance(inner, ZerothOrder):
        raise TypeError(
            "inner must be an optax transformation that takes gradients, got one that estimates them: "
            "pass what is inside of it, such as optax.sgd(0.1)."
        )
    if not hasattr(inner, "update"):
        raise TypeError(
            f"inner must be an optax transformation, got {inner}; "
            "did you forget to call it, as in optax.sgd(0.1)?"
        )
    inner = optax.with_extra_args_support(inner)
    estimator = make_estimator() if estimator is None else estimator
    if not isinstance(estimator, Estimator):
        raise TypeError(f"estimator must be a zojax.estimator(...), got {estimator!r}.")
    source = _Source(inner, estimator, as_key(key), _float_dtype(inner_dtype))
    return ZerothOrder(
        init=partial(_init, source),
        update=_updating(source),
        estimator=estimator,
        replay=compiled_outside(partial(_replay, source)),
    )


class _Source(NamedTuple):
    inner: optax.GradientTransformationExtraArgs
    estimator: Estimator
    key: jax.Array
    dtype: jnp.dtype | None

    def floats(self, params: PyTree) -> PyTree:
        """The float leaves, as `inner` sees them."""
        floats = floats_only(params)
        return floats if self.dtype is None else jax.tree.map(self._widened, floats)

    def _widened(self, leaf):
        dtype = at_least(jnp.result_type(leaf), self.dtype)
        if isinstance(leaf, jax.ShapeDtypeStruct):
            return leaf.update(dtype=dtype)
        return jnp.asarray(leaf, dtype)


def _float_dtype(dtype) -> jnp.dtype | None:
    if dtype is None:
        return None
    try:
        found = jax.dtypes.canonicalize_dtype(dtype)
    except TypeError:
        found = None
    if found is None or not jnp.issubdtype(found, jnp.floating):
        raise TypeError(f"inner_dtype must be a float dtype such as jnp.float32, got {dtype!r}.")
    return found


def _init(source: _Source, params: PyTree) -> ZerothOrderState:
    floats, n = floats_only(params), source.estimator.num_directions
    return ZerothOrderState(
        rng_key=jnp.copy(source.key),  # the state may be donated; the next init needs the key again
        count=jnp.int32(0),
        # Not computed: `jax_debug_nans` would object.
        value=jax.device_put(np.asarray(np.nan, float_dtype())),
        estimator_state=source.estimator.init(),
        inner_state=source.inner.init(source.floats(params)),
        coefficients=jax.device_put(np.full(n, np.nan, coefficients_dtype(floats))),
    )


def _updating(source: _Source) -> Callable:
    """`ZerothOrder.update`: checks, and a compiled step."""
    step_with_loss = compiled_call(partial(_step_with_loss, source))
    step_with_values = compiled_call(partial(_step_with_values, source))

    def update(updates, state, params=None, *, value_fn=None, values=None, **extras):
        """(updates, state) of a step, see `zojax.zeroth_order`."""
        del updates  # estimated from value_fn
        if params is None:
            raise ValueError(
                "zeroth_order needs the parameters: tx.update(None, state, params, ...)."
            )
        _check_state(state, source.estimator.num_directions)
        if values is not None and value_fn is not None:
            raise TypeError(
                "update got value_fn and values: values are evaluations that were made elsewhere; "
                "if the loss has an argument of this name, rename it."
            )
        if values is not None:
            warn_of_resolution(values)
            return step_with_values(state, params, jnp.asarray(values))
        if value_fn is None:
            raise TypeError(
                "zeroth_order needs a loss, got value_fn=None: "
                "tx.update(None, state, params, value_fn=loss, ...)."
            )
        _check_extras(value_fn, extras)
        return step_with_loss(value_fn, state, params, extras)

    return update


def _step_with_loss(source: _Source, value_fn, state: ZerothOrderState, params, extras):
    estimate = source.estimator.estimate(
        noise.fold_in(state.rng_key, state.count),
        value_fn,
        params,
        (),
        extras,
        state=state.estimator_state,
        step=state.count,
        dtype=source.dtype,
    )

    differ = source.estimator.with_key or source.estimator.in_axes is not None

    def of_floats(floats, **kwargs):
        if differ:
            raise ValueError(
                "the inner transformation evaluates the loss (as a line search does), which has keys or "
                "data of its own for every direction here: give all the same, or step without."
            )
        floats = jax.tree.map(
            lambda p, x: x.astype(jnp.result_type(p)), floats_only(params), floats
        )
        return value_fn(replace_floats(params, floats), **{**extras, **kwargs})

    return _step(source, state, params, estimate, of_floats)


def _step_with_values(source: _Source, state: ZerothOrderState, params, values):
    key = noise.fold_in(state.rng_key, state.count)
    asked = source.estimator.asked(key, params, step=state.count)
    estimate = source.estimator.conclude(asked, values, state.estimator_state, source.dtype)
    return _step(source, state, params, estimate, _no_loss)


def _replay(source: _Source, state: ZerothOrderState, params, coefficients, value=jnp.nan):
    """`ZerothOrder.replay`."""
    used = jnp.sum(~jnp.isnan(coefficients))
    ok = (used > 0) & ~jnp.isnan(value)
    before = state.estimator_state
    after = before._replace(  # the rest counts what evaluations show
        skipped=before.skipped + (coefficients.shape[0] - used).astype(jnp.int32),
        previous=jnp.where(ok, value, before.previous).astype(before.previous.dtype),
        started=before.started | (used > 0),
    )
    key = noise.fold_in(state.rng_key, state.count)
    grads = source.estimator.combine(key, params, coefficients, source.dtype)
    estimate = Estimate(
        value=jnp.asarray(value),
        grads=grads,
        aux=(),
        used=used,
        state=after,
        coefficients=coefficients,
        flat=jnp.int32(0),
        clipped=jnp.int32(0),
    )
    return _step(source, state, params, estimate, _no_loss)


def _step(source: _Source, state: ZerothOrderState, params, estimate: Estimate, value_fn):
    """The inner step, undone where no direction was finite."""
    c = estimate.coefficients[0]
    finite = jnp.where(jnp.isnan(c), 0, c)
    value = estimate.value.astype(float_dtype())  # as a log has it

    def inner_update(grads, inner_state, floats, value):
        return source.inner.update(
            grads, inner_state, floats, value=value, grad=grads, value_fn=value_fn
        )

    ok = estimate.used > 0
    grads = replace_floats(params, estimate.grads, other=lambda leaf: None)
    updates, inner_state = implicit.settled_update(inner_update, ok, finite)(
        grads, state.inner_state, source.floats(params), value
    )

    def settled(p, u):
        u = jnp.where(ok, u, jnp.zeros_like(u))
        u = u if source.dtype is None else saturated(u, jnp.result_type(p))
        # Rounded before it is added: the same bits in one program with the sum as in two.
        return _barriers.rounded(u, finite) if is_float(u) else u

    updates = jax.tree.map(settled, floats_only(params), updates)
    return replace_floats(params, updates, other=no_update), ZerothOrderState(
        rng_key=state.rng_key,
        count=optax.safe_increment(state.count),
        value=value,
        estimator_state=estimate.state,
        inner_state=inner_state,
        coefficients=estimate.coefficients,
    )


def apply_updates(params: PyTree, updates: PyTree) -> PyTree:
    """`optax.apply_updates` for trees that also hold keys: a leaf whose update is None stays.

    >>> import jax, jax.numpy as jnp, zojax
    >>> params = {"w": jnp.ones(2), "rng": jax.random.key(0)}
    >>> print(zojax.apply_updates(params, {"w": jnp.ones(2), "rng": None})["w"])
    [2. 2.]
    """

    def add(p, u):
        return p if u is None else (p + u).astype(jnp.result_type(p))

    return jax.tree.map(add, params, updates)


def _no_loss(*args, **kwargs):
    raise ValueError(
        "the inner transformation evaluates the loss (as a line search does), and has none where values "
        "come from outside or a step is replayed from its coefficients."
    )


def _check_state(state, num_directions: int) -> None:
    if not isinstance(state, ZerothOrderState):
        raise TypeError(
            f"state must be what tx.init(params) returned, got a {type(state).__name__}; "
            "the order is tx.update(None, state, params, value_fn=loss)."
        )
    if state.coefficients.shape != (num_directions,):
        raise ValueError(
            f"state is of a step with {state.coefficients.shape[0]} directions, and this transformation "
            f"has {num_directions}: begin with tx.init(params)."
        )


def _check_extras(value_fn: Callable, extras: dict) -> None:
    """Raises TypeError for an extra that the loss does not take by name."""
    try:
        parameters = list(inspect.signature(value_fn).parameters.values())
    except (TypeError, ValueError):  # no signature to read, as for some builtins
        return
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return
    by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    names = [p.name for p in parameters[1:] if p.kind in by_name]
    for name in extras:
        if name not in names:
            raise TypeError(
                f"update got an extra {name!r} that value_fn does not take; it takes {names}. "
                "Add it to the loss's arguments, or do not pass it."
            )
