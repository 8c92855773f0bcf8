"""`zeroth_order`: an estimator as an optax gradient transformation.

The gradient source wraps the chain that consumes it: an optax chain cannot hand `value` or `grad` from
one stage to the next, and `partition`, `masked`, `MultiSteps` and `apply_if_finite` outside a source
would hide the parameters from the loss, reuse its key, or look at updates that do not exist yet. All of
them belong inside: `zeroth_order(optax.MultiSteps(optax.adam(1e-3), 4), ...)`.
"""

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import export

from zojax import _barriers, _optax, implicit, noise
from zojax._call import Same, compiled_call, compiled_outside
from zojax._checks import brief
from zojax._estimate import Estimate, EstimatorState, coefficients_dtype, saturated
from zojax._estimator import Estimator
from zojax._estimator import estimator as make_estimator
from zojax._keys import as_key
from zojax._numerics import at_least, float_dtype, marking_nan, promoting, warn_of_resolution
from zojax._trees import (
    PyTree,
    floats_only,
    is_float,
    no_update,
    replace_floats,
    require_arrays,
    require_dtypes,
    require_floats,
    structure_of,
)


class ZerothOrderState(NamedTuple):
    """State of `zeroth_order`. Its types and shapes are the same from `init` on.

    NumPy, flax and equinox cannot save typed keys. Let them save the state with raw key data,
    `state._replace(rng_key=jax.random.key_data(state.rng_key))`. `update`, `replay`,
    `zojax.minimize(state=)` and `zojax.trajectory.Recorder` take such a state as it is.

    `jax.export` serializes a step that takes and returns a state. Register the optax states in it first:
    `jax.export.register_namedtuple_serialization(optax.TraceState, serialized_name="optax.TraceState")`.

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


export.register_namedtuple_serialization(ZerothOrderState, serialized_name="zojax.ZerothOrderState")


class ZerothOrder(optax.GradientTransformationExtraArgs):
    """An optax transformation that also carries its `estimator`, for ask/tell loops, and `replay`.

    `replay(state, params, coefficients, value=nan) -> (updates, state)` is the update of the step that
    had these `ZerothOrderState.coefficients`, to the bit, without a loss: see `zojax.trajectory`.

    Attributes:
      init: `init(params) -> ZerothOrderState`.
      update: `update(None, state, params, *, value_fn, inner_extras=None, **extras) -> (updates, state)`,
        or with `values` in the place of `value_fn`.
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

    Extras that `value_fn` does not take and a transformation in `inner` takes by name go to `inner`. Where
    both take it, or `value_fn` takes any, pass it to `inner` as `inner_extras={"name": x}`. A log holds no
    extras: a run with such an `inner` is neither recorded nor replayed.

    Where each transformation of optax belongs:

    | transformation | place |
    |---|---|
    | `masked`, `partition`, `MultiSteps`, `apply_if_finite`, `flatten` | inside (1) |
    | `conditionally_mask`, `contrib.schedule_free`, any other wrapper | inside (1) |
    | line searches, `scale_by_polyak`, `contrib.reduce_on_plateau` | inside (2) |
    | a stage before it in a chain, as `clip_by_global_norm` | inside (3) |
    | `chain`, `named_chain`, `inject_hyperparams` | inside or around |
    | `lookahead`, `contrib.sam`, `contrib.sophia` (its default Hessian) | nowhere (4) |

    (1) `zeroth_order(optax.masked(...))`. Around it, `init` raises. (2) They read the value, which a chain
    does not hand on. After it, `update` raises. (3) Before it a stage has no effect, since the updates
    passed in are ignored. (4) Give them gradients of `zojax.value_and_grad` in a loop of your own.

    Wrappers of your own are not recognised: they must pass parameters, state and extras on unchanged.

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
      ValueError: no params or none of floating point, a loss that is not scalar, a state with another
        number of directions, or a replay of an `inner` that takes extras.
      TypeError: a state that is none, an estimator in the place of `inner`, no value_fn, an extra that
        neither it nor `inner` takes, a leaf that is no array, or a transformation of optax in a place
        where it cannot work, or an `inner_dtype` that is no float.

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
    if not all(callable(getattr(inner, name, None)) for name in ("init", "update")):
        raise TypeError(
            f"inner must be an optax transformation, got {inner}; "
            "did you forget to call it, as in optax.sgd(0.1)?"
        )
    estimator = make_estimator() if estimator is None else estimator
    if not isinstance(estimator, Estimator):
        raise TypeError(f"estimator must be a zojax.estimator(...), got {estimator!r}.")
    source = _Source(
        optax.GradientTransformationExtraArgs(inner.init, _optax.accepting(inner.update)),
        estimator,
        as_key(key),
        _float_dtype(inner_dtype),
        _optax.extra_names(inner.update),
        _optax.required_names(inner.update),
    )
    return ZerothOrder(
        init=partial(_init, source),
        update=_updating(source),
        estimator=estimator,
        replay=_replaying(source),
    )


class _Source(NamedTuple):
    """Attributes:
    inner_extras: names of the extra arguments that inner takes beside value, grad and value_fn.
    required: those of them without a default.
    """

    inner: optax.GradientTransformationExtraArgs
    estimator: Estimator
    key: jax.Array
    dtype: jnp.dtype | None
    inner_extras: frozenset[str]
    required: frozenset[str]

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
    _optax.require_no_wrapper()
    structure = structure_of(params)
    if not _optax.is_placeholder(params):
        require_floats(structure)
    floats, n = floats_only(params), source.estimator.num_directions
    return ZerothOrderState(
        rng_key=jnp.copy(source.key),  # the state may be donated; the next init needs the key again
        count=jnp.int32(0),
        # Not computed: `jax_debug_nans` would object.
        value=jax.device_put(np.asarray(np.nan, float_dtype())),
        estimator_state=source.estimator.init(),
        inner_state=_inner_state(source, source.floats(params)),
        coefficients=jax.device_put(np.full(n, np.nan, coefficients_dtype(floats))),
    )


def _inner_state(source: _Source, floats: PyTree) -> optax.OptState:
    """The state of inner, with the dtypes that its steps return: another dtype is another program."""
    state = source.inner.init(floats)
    _optax.require_possible(state)
    if source.inner_extras or _optax.is_placeholder(floats):  # a step cannot be tried
        return state
    number = jax.ShapeDtypeStruct((), float_dtype())

    def step(floats, state, value):
        given = {"value": value, "grad": floats, "value_fn": lambda *_, **__: jnp.zeros_like(value)}
        return promoting(source.inner.update)(floats, state, floats, **given)[1]

    after = jax.eval_shape(step, floats, state, number)
    return jax.tree.map(_with_type_of, state, after)


def _with_type_of(x, like):
    """`x`, converted where its dtype is another, or is weak, as that of a Python number."""
    dtype = jnp.result_type(like)
    if isinstance(x, jax.Array) and (x.dtype != dtype or jax.typeof(x).weak_type):
        return jax.lax.convert_element_type(x, dtype)
    return x


def _updating(source: _Source) -> Callable:
    """`ZerothOrder.update`: checks, and a compiled step."""
    step_with_loss = compiled_call(partial(_step_with_loss, source))
    step_with_values = compiled_call(partial(_step_with_values, source))

    def update(
        updates, state, params=None, *, value_fn=None, values=None, inner_extras=None, **extras
    ):
        """(updates, state) of a step, see `zojax.zeroth_order`."""
        del updates  # estimated from value_fn
        if params is None:
            raise ValueError(
                "zeroth_order needs the parameters: tx.update(None, state, params, ...)."
            )
        _optax.require_no_reader(update, {"value_fn", *extras})
        _check_state(state, source.estimator.num_directions)
        if values is not None and value_fn is not None:
            raise TypeError(
                "update got value_fn and values: values are evaluations that were made elsewhere; "
                "if the loss has an argument of this name, rename it."
            )
        if values is None and value_fn is None:
            raise TypeError(
                "zeroth_order needs a loss, got value_fn=None: "
                "tx.update(None, state, params, value_fn=loss, ...)."
            )
        require_arrays("params", params)
        require_dtypes("extras", extras)
        require_dtypes("inner_extras", inner_extras)
        extras, inner_extras = _routed(source, value_fn, extras, inner_extras)
        if values is not None:
            warn_of_resolution(values)
            return step_with_values(state, params, jnp.asarray(values), inner_extras)
        return step_with_loss(value_fn, state, params, extras, inner_extras)

    return update


def _step_with_loss(
    source: _Source, value_fn, state: ZerothOrderState, params, extras, inner_extras
):
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

    return _step(source, state, params, estimate, of_floats, inner_extras)


def _step_with_values(source: _Source, state: ZerothOrderState, params, values, inner_extras):
    key = noise.fold_in(state.rng_key, state.count)
    asked = source.estimator.asked(key, params, step=state.count)
    estimate = source.estimator.conclude(asked, values, state.estimator_state, source.dtype)
    return _step(source, state, params, estimate, _no_loss, inner_extras)


def _replaying(source: _Source) -> Callable:
    """`ZerothOrder.replay`: checks, and a compiled step."""
    step = marking_nan(compiled_outside(partial(_replay, source)))

    def replay(state, params, coefficients, value=jnp.nan):
        """(updates, state) of the step that had these coefficients, see `ZerothOrder`."""
        if source.inner_extras:
            raise ValueError(
                f"inner takes {sorted(source.inner_extras)} in each step, which neither coefficients "
                "nor a log contain: only an inner transformation without extra arguments can be "
                "recorded and replayed."
            )
        require_arrays("params", params)
        return step(state, params, coefficients, value)

    return replay


def _replay(source: _Source, state: ZerothOrderState, params, coefficients, value):
    """The step that had these coefficients, without a loss."""
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
    return _step(source, state, params, estimate, _no_loss, {})


def _step(
    source: _Source,
    state: ZerothOrderState,
    params,
    estimate: Estimate,
    value_fn,
    inner_extras: dict,
):
    """The inner step, undone where no direction was finite."""
    c = estimate.coefficients[0]
    finite = jnp.where(jnp.isnan(c), 0, c)
    value = estimate.value.astype(float_dtype())  # as a log has it

    def inner_update(grads, inner_state, floats, value):
        given = {"value": value, "grad": grads, "value_fn": value_fn}
        return promoting(source.inner.update)(grads, inner_state, floats, **given, **inner_extras)

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
    inner_state = jax.tree.map(_with_type_of, inner_state, state.inner_state)
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


def _routed(
    source: _Source, value_fn, extras: dict, inner_extras: dict | None
) -> tuple[dict, dict]:
    """Extras of the loss, and those of inner: what the loss does not take by name, and inner does."""
    if not isinstance(inner_extras, Mapping | None):
        raise TypeError(
            f"inner_extras must be a dict from names to values, got {brief(inner_extras)}."
        )
    by_name = dict(inner_extras or {})
    for name in by_name:
        if name not in source.inner_extras:
            raise TypeError(
                f"inner_extras has {name!r}, which inner does not take by name; "
                f"it takes {sorted(source.inner_extras)}. Name it in the signature of inner.update."
            )
    taken = _names_of(value_fn)
    own = {k: v for k, v in extras.items() if taken is None or k in taken}
    for name in extras.keys() - own.keys() - source.inner_extras:
        if value_fn is None:
            raise TypeError(
                f"update got values and an extra {name!r}, which no loss takes: do not pass it."
            )
        inner = f", and inner {sorted(source.inner_extras)}" if source.inner_extras else ""
        raise TypeError(
            f"update got an extra {name!r} that value_fn does not take; it takes {taken}{inner}. "
            "Add it to the loss's arguments, or do not pass it."
        )
    by_name = {k: v for k, v in extras.items() if k not in own} | by_name
    missing = sorted(source.required - by_name.keys())
    if missing:
        raise TypeError(
            f"inner requires {missing}, which update did not get: "
            f"tx.update(None, state, params, value_fn=loss, {missing[0]}=...), or inner_extras= where "
            "the loss takes it too. zojax.minimize has none."
        )
    return own, by_name


def _names_of(value_fn: Callable | None) -> list[str] | None:
    """Names of the extras that a loss takes, or None where it takes any."""
    if value_fn is None:
        return []
    try:
        parameters = list(inspect.signature(value_fn).parameters.values())
    except (TypeError, ValueError):  # no signature to read, as for some builtins
        return None
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return None
    by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return [p.name for p in parameters[1:] if p.kind in by_name]
