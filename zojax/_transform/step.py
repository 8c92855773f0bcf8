"""One step of `zeroth_order`: an estimate, then the inner transformation."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from zojax import _barriers, implicit, noise
from zojax._estimator import Estimate, Estimator
from zojax._estimator.coefficients import coefficients_dtype
from zojax._numerics import at_least, float_dtype, promoting, saturated
from zojax._sharding import typed_like
from zojax._transform import wrappers
from zojax._transform.state import Scalars, ZerothOrderState
from zojax._trees import PyTree, Split, copied, is_float, no_update, split_structure, widened


class Source(NamedTuple):
    """The gradient source: the arguments of `zeroth_order`, and the signature of `inner`.

    Attributes:
      inner: the inner transformation; its update accepts any extra arguments.
      estimator: the estimator.
      key: of the run.
      dtype: the least dtype of gradients and parameters that `inner` is given, or None.
      inner_extras: names of the extra arguments of `inner` that a user passes.
      takes_scalars: whether `inner` takes `scalars`.
      required: those of them without a default.
    """

    inner: optax.GradientTransformationExtraArgs
    estimator: Estimator
    key: jax.Array
    dtype: jnp.dtype | None
    inner_extras: frozenset[str]
    takes_scalars: bool
    required: frozenset[str]

    def floats(self, split: Split) -> PyTree:
        """The float leaves, as `inner` sees them."""
        if self.dtype is None:
            return split.tree()
        return split.tree(
            widened(x, at_least(jnp.result_type(x), self.dtype)) for x in split.floats
        )


def initial(source: Source, params: PyTree) -> ZerothOrderState:
    """`ZerothOrder.init`."""
    wrappers.require_no_wrapper()
    if not wrappers.is_placeholder(params):
        split_structure(params)  # raises without a float leaf
    split, n = Split.of(params), source.estimator.num_directions
    return ZerothOrderState(
        rng_key=copied(source.key),  # the state may be donated; the next init needs the key again
        count=copied(np.int32(0)),
        value=copied(np.asarray(np.nan, float_dtype())),
        estimator_state=source.estimator.init(params),
        inner_state=_inner_state(source, source.floats(split)),
        coefficients=copied(np.full(n, np.nan, coefficients_dtype(split.floats))),
    )


def _inner_state(source: Source, floats: PyTree) -> optax.OptState:
    """The state of inner, in the dtypes that its steps return: another dtype is another program."""
    state = source.inner.init(floats)
    wrappers.require_possible(state)
    if source.inner_extras or wrappers.is_placeholder(floats):  # a step cannot be tried
        return state
    number = jax.ShapeDtypeStruct((), float_dtype())

    def step(floats, state, value):
        given = {"value": value, "grad": floats, "value_fn": lambda *_, **__: jnp.zeros_like(value)}
        if source.takes_scalars:
            dtype = coefficients_dtype(jax.tree.leaves(floats))
            c = jnp.zeros(source.estimator.num_directions, dtype)
            given["scalars"] = Scalars(jnp.int32(0), c, lambda c, count: floats)
        return promoting(source.inner.update)(floats, state, floats, **given)[1]

    after = jax.eval_shape(step, floats, state, number)
    return jax.tree.map(_with_type_of, state, after)


def _with_type_of(x, like):
    """`x`, converted if its dtype differs or is weak, as a Python number's is; and sharded as `like`."""
    dtype = jnp.result_type(like)
    if not isinstance(x, jax.Array):
        return x
    if x.dtype != dtype or jax.typeof(x).weak_type:
        x = jax.lax.convert_element_type(x, dtype)
    return typed_like(x, like) if isinstance(like, jax.Array) else x


def step_with_loss(
    source: Source,
    value_fn: Callable,
    state: ZerothOrderState,
    params: PyTree,
    extras: dict,
    inner_extras: dict,
) -> tuple[PyTree, ZerothOrderState]:
    """The step whose evaluations are calls of `value_fn`."""
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
    split = Split.of(params)
    differ = source.estimator.with_key or source.estimator.in_axes is not None

    def of_floats(floats, **kwargs):
        if differ:
            raise ValueError(
                "the inner transformation evaluates the loss (as a line search does), which has keys or "
                "data of its own for every direction here: give all the same, or step without."
            )
        narrowed = [
            x.astype(jnp.result_type(p))
            for p, x in zip(split.floats, split.places_in(floats), strict=True)
        ]
        return value_fn(split.join(narrowed), **{**extras, **kwargs})

    return _step(source, state, split, estimate, of_floats, inner_extras)


def step_with_values(
    source: Source, state: ZerothOrderState, params: PyTree, values: jax.Array, inner_extras: dict
) -> tuple[PyTree, ZerothOrderState]:
    """The step whose evaluations were made elsewhere."""
    key = noise.fold_in(state.rng_key, state.count)
    before = state.estimator_state
    asked = source.estimator.asked(key, params, step=state.count, state=before)
    estimate = source.estimator.conclude(asked, values, state.estimator_state, source.dtype)
    return _step(source, state, Split.of(params), estimate, _no_loss, inner_extras)


def replayed(
    source: Source, state: ZerothOrderState, params: PyTree, coefficients, value
) -> tuple[PyTree, ZerothOrderState]:
    """The step with these coefficients, without a loss."""
    if source.inner_extras:
        raise ValueError(
            f"inner takes {sorted(source.inner_extras)} in each step, which neither coefficients nor a log "
            "contain: only an inner transformation without extra arguments can be recorded and replayed."
        )
    estimate = source.estimator.repeat(
        noise.fold_in(state.rng_key, state.count),
        params,
        coefficients,
        value,
        state.estimator_state,
        state.count,
        source.dtype,
    )
    return _step(source, state, Split.of(params), estimate, _no_loss, {})


def _step(
    source: Source,
    state: ZerothOrderState,
    split: Split,
    estimate: Estimate,
    value_fn: Callable,
    inner_extras: dict[str, Any],
) -> tuple[PyTree, ZerothOrderState]:
    """The inner step, undone if no direction was finite."""
    c = estimate.coefficients[0]
    finite = jnp.where(jnp.isnan(c), 0, c)
    value = estimate.value.astype(float_dtype())  # as a log has it

    def inner_update(grads, inner_state, floats, value, coefficients):
        given = {"value": value, "grad": grads, "value_fn": value_fn}
        if source.takes_scalars:
            given["scalars"] = _scalars(source, state, floats, coefficients)
        return promoting(source.inner.update)(grads, inner_state, floats, **given, **inner_extras)

    ok = estimate.used > 0
    grads = split.tree(split.places_in(estimate.grads))
    updates, inner_state = implicit.settled_update(inner_update, ok, finite)(
        grads, state.inner_state, source.floats(split), value, estimate.coefficients
    )

    def settled(p, u):
        u = jnp.where(ok, u, jnp.zeros_like(u))
        u = u if source.dtype is None else saturated(u, jnp.result_type(p))
        # Rounded before it is added: the same bits in one program with the sum as in two.
        return _barriers.rounded(u, finite) if is_float(u) else u

    slicing = source.estimator.slicing(split.floats)

    def whole(p, u):
        u = u if slicing is None else slicing.sliced(u, p)
        u = settled(p, u)
        return u if slicing is None else slicing.gathered(u, p)

    changes = list(map(whole, split.floats, split.places_in(updates)))
    inner_state = jax.tree.map(_with_type_of, inner_state, state.inner_state)
    return split.join(changes, no_update), ZerothOrderState(
        rng_key=state.rng_key,
        count=optax.safe_increment(state.count),
        value=value,
        estimator_state=estimate.state,
        inner_state=inner_state,
        coefficients=estimate.coefficients,
    )


def _scalars(source: Source, state: ZerothOrderState, floats: PyTree, coefficients) -> Scalars:
    """What `inner` makes gradients of earlier steps from."""
    data, impl = jax.random.key_data(state.rng_key), jax.random.key_impl(state.rng_key)

    def combine(coefficients, count):
        if jax.tree.leaves(state.estimator_state.direction):
            raise ValueError(
                "inner makes the gradients of earlier steps again, which a direction with a memory "
                "does not allow: give the estimator another direction."
            )
        # Wrapped anew in each turn of a loop, where a key may be used once.
        key = noise.fold_in(jax.random.wrap_key_data(data, impl=impl), count)
        return source.estimator.combine(key, floats, coefficients, jnp.float32)

    return Scalars(state.count, jnp.where(jnp.isnan(coefficients), 0, coefficients), combine)


def _no_loss(*args, **kwargs):
    raise ValueError(
        "the inner transformation evaluates the loss (as a line search does), and has none where values "
        "come from outside or a step is replayed from its coefficients."
    )
