"""`zeroth_order`: an estimator as an optax gradient transformation.

The gradient source wraps the chain that consumes its gradients, since an optax chain cannot hand `value`
or `grad` from one stage to the next. `partition`, `masked`, `MultiSteps` and `apply_if_finite` belong
inside too: `zeroth_order(optax.MultiSteps(optax.adam(1e-3), 4), ...)`. Around a source they would hide
the parameters from the loss, reuse its key, or look at updates that do not exist yet.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

from zojax._call import compiled_call, compiled_outside
from zojax._estimator import Estimator
from zojax._estimator import estimator as make_estimator
from zojax._keys import as_key
from zojax._numerics import marking_nan, warn_of_resolution
from zojax._transform import extras as _extras
from zojax._transform import wrappers
from zojax._transform.state import ZerothOrder, ZerothOrderState
from zojax._transform.step import Source, initial, replayed, step_with_loss, step_with_values
from zojax._trees import PyTree, require_arrays, require_dtypes


def zeroth_order(
    inner: optax.GradientTransformation | None = None,
    estimator: Estimator | None = None,
    key: int | jax.Array = 0,
    inner_dtype: Any = None,
) -> ZerothOrder:
    """Feeds `inner` with gradients estimated from values of `value_fn`.

    `update(None, state, params, value_fn=loss, **extras)` calls `loss(params, **extras)` at perturbed
    parameters and ignores the updates passed in. `inner` gets the float leaves of the parameters, and
    `value`, `grad` and `value_fn`, as line searches and `polyak_sgd` expect. You can evaluate the loss
    elsewhere, at the points of
    `estimator.ask(fold_in(state.rng_key, state.count), params, step=state.count)`. Pass the values as
    `update(None, state, params, values=values)`.

    If no direction has a finite evaluation, the update is zero, `inner` does not step, and
    `state.value` is NaN. `state.estimator_state.skipped` counts the directions left out.

    A transformation of your own in `inner` may also name `scalars`, a `zojax.Scalars`: the coefficients of
    the step, and a function that makes the gradient of an earlier step again from its coefficients.

    Extras go to `inner` if `value_fn` does not take them and a transformation in `inner` takes them by
    name. If both take a name, or `value_fn` takes any, use `inner_extras={"name": x}`. A log holds no
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

    Outside `jit` an update compiles once for a function, shapes, and static extras: pass an int that
    changes as `jnp.asarray(step)`. As under `jax.jit`, the loss reads its globals and its closure when
    it is traced: pass values that change as extras. A callable object, or a method's object, is traced
    again when one of its attributes changes.

    Gradients have the dtypes of the parameters. In float16 and float8 a larger entry is clipped to the
    range (65,504 in float16), and `state.estimator_state.clipped` counts these entries. A norm of such
    gradients may overflow, so that `optax.clip_by_global_norm` gives zeros. With
    `inner_dtype=jnp.float32` nothing is clipped before the updates.

    Args:
      inner: any optax transformation. The default is the identity: the estimate itself is the update,
        and the transformation can head a chain.
      estimator: how to estimate; `zojax.estimator()` by default.
      key: of the run.
      inner_dtype: `inner` computes narrower float leaves in this dtype: gradients, parameters and state.
        Its updates are cast to the dtypes of the parameters, clipped to their range. None: the dtypes
        of the parameters.

    Returns:
      A `ZerothOrder`: a `GradientTransformationExtraArgs` with the attribute `estimator`. Updates have
      the structure of the parameters: zeros at integer and bool leaves, None at keys (use
      `zojax.apply_updates`).

    Raises:
      ValueError: no params or none of floating point, a loss that is not scalar, a state with another
        number of directions, or a replay of an `inner` that takes extras.
      TypeError: a state of another type, an estimator in the place of `inner`, no value_fn, an extra that
        neither it nor `inner` takes, a leaf that is not an array, or a transformation of optax in a place
        where it cannot work, or an `inner_dtype` that is not a float.

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
    _require_inner(inner)
    estimator = make_estimator() if estimator is None else estimator
    if not isinstance(estimator, Estimator):
        raise TypeError(f"estimator must be a zojax.estimator(...), got {estimator!r}.")
    names = _extras.extra_names(inner.update)
    source = Source(
        optax.GradientTransformationExtraArgs(inner.init, _extras.accepting(inner.update)),
        estimator,
        as_key(key),
        _checked_dtype(inner_dtype),
        names - _extras.GIVEN,
        "scalars" in names,
        _extras.required_names(inner.update) - _extras.GIVEN,
    )
    init, again = partial(initial, source), partial(replayed, source)
    return transformation(estimator, init, _compiled_step(source), again)


def _require_inner(inner) -> None:
    if isinstance(inner, Estimator):
        raise TypeError(
            "inner must be an optax transformation, got an estimator; "
            "pass it by name, zeroth_order(estimator=...)."
        )
    if isinstance(inner, ZerothOrder):
        raise TypeError(
            "inner must be an optax transformation that takes gradients, got one that estimates them: "
            "pass the transformation inside it, such as optax.sgd(0.1)."
        )
    if not all(callable(getattr(inner, name, None)) for name in ("init", "update")):
        raise TypeError(
            f"inner must be an optax transformation, got {inner}; "
            "did you forget to call it, as in optax.sgd(0.1)?"
        )


def _checked_dtype(dtype: Any) -> jnp.dtype | None:
    if dtype is None:
        return None
    try:
        found = jax.dtypes.canonicalize_dtype(dtype)
    except TypeError:
        found = None
    if found is None or not jnp.issubdtype(found, jnp.floating):
        raise TypeError(f"inner_dtype must be a float dtype such as jnp.float32, got {dtype!r}.")
    return found


def _compiled_step(source: Source) -> Callable[..., tuple[PyTree, ZerothOrderState]]:
    """The step of `transformation`: extras go to the loss or to the inner transformation."""
    step_of_loss = compiled_call(partial(step_with_loss, source))
    step_of_values = compiled_call(partial(step_with_values, source))

    def step(value_fn, state, params, given):
        extras = dict(given)
        values, inner_extras = extras.pop("values"), extras.pop("inner_extras")
        own, others = _extras.routed(
            value_fn, extras, inner_extras, known=source.inner_extras, required=source.required
        )
        if values is not None:
            return step_of_values(state, params, jnp.asarray(values), others)
        return step_of_loss(value_fn, state, params, own, others)

    return step


def transformation(
    estimator: Estimator,
    init: Callable[[PyTree], ZerothOrderState],
    step: Callable[..., tuple[PyTree, ZerothOrderState]],
    replayed: Callable[..., tuple[PyTree, ZerothOrderState]],
    check: Callable[[PyTree], Any] = lambda params: None,
) -> ZerothOrder:
    """A `ZerothOrder` that checks the arguments of its steps.

    `step(value_fn, state, params, given)` and `replayed(state, params, coefficients, value)` return
    updates and state. `given` are the other arguments of `update` by keyword. `step` compiles itself.
    `check(params)` raises for parameters that do not fit.
    """
    again = marking_nan(compiled_outside(replayed))

    def update(
        updates: Any,
        state: ZerothOrderState,
        params: PyTree = None,
        *,
        value_fn: Callable | None = None,
        values: Any = None,
        inner_extras: Mapping[str, Any] | None = None,
        **extras: Any,
    ) -> tuple[PyTree, ZerothOrderState]:
        """(updates, state) of a step, see `zojax.zeroth_order`."""
        del updates  # estimated from value_fn
        if params is None:
            raise ValueError(
                "zeroth_order needs the parameters: tx.update(None, state, params, ...)."
            )
        wrappers.require_no_reader(update, {"value_fn", *extras})
        _require_state(state, estimator.num_directions)
        _require_loss(value_fn, values)
        require_arrays("params", params)
        require_dtypes("extras", extras)
        require_dtypes("inner_extras", inner_extras)
        if values is not None:
            warn_of_resolution(values)
        check(params)
        given = {"values": values, "inner_extras": inner_extras, **extras}
        return step(value_fn, state, params, given)

    def replay(state: ZerothOrderState, params: PyTree, coefficients, value=jnp.nan):
        """(updates, state) of the step with these coefficients, see `ZerothOrder`."""
        require_arrays("params", params)
        return again(state, params, coefficients, value)

    return ZerothOrder(init, update, estimator, replay)


def around(
    tx: ZerothOrder,
    init: Callable[[PyTree], ZerothOrderState],
    kind: type,
    seen: Callable[[PyTree], PyTree],
    loss: Callable[[Callable, PyTree], Callable],
    finished: Callable[..., tuple[PyTree, ZerothOrderState]],
    check: Callable[[PyTree], Any] = lambda params: None,
) -> ZerothOrder:
    """A transformation around `tx`, which has a state of a class `kind` around the inner one.

    Args:
      seen: `seen(params)`, the parameters of `tx`.
      loss: `loss(value_fn, params)`, the loss of `tx`.
      finished: `finished(state, params, updates, after)`, updates and state from those of `tx`.
    """

    def inside(state: ZerothOrderState) -> ZerothOrderState:
        if not isinstance(getattr(state, "inner_state", None), kind):
            raise TypeError(
                "state must be the result of tx.init(params) of this transformation, got that of another."
            )
        return state._replace(inner_state=state.inner_state.inner_state)

    def stepped(value_fn, state, params, given):
        fun = None if value_fn is None else loss(value_fn, params)
        updates, after = tx.update(None, inside(state), seen(params), value_fn=fun, **given)
        return finished(state, params, updates, after)

    def replayed(state, params, coefficients, value):
        updates, after = tx.replay(inside(state), seen(params), coefficients, value)
        return finished(state, params, updates, after)

    return transformation(tx.estimator, init, compiled_call(stepped), replayed, check)


def _require_loss(value_fn, values) -> None:
    """Raises TypeError unless an update gets either a loss or values."""
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


def _require_state(state, num_directions: int) -> None:
    if not isinstance(state, ZerothOrderState):
        raise TypeError(
            f"state must be the result of tx.init(params), got a {type(state).__name__}; "
            "the order is tx.update(None, state, params, value_fn=loss)."
        )
    if state.coefficients.shape != (num_directions,):
        raise ValueError(
            f"state is of a step with {state.coefficients.shape[0]} directions, and this transformation "
            f"has {num_directions}: begin with tx.init(params)."
        )
