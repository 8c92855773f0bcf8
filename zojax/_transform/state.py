"""The types of `zeroth_order`: the transformation, its functions and its state."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import jax
import optax
from jax import export

from zojax._estimator import Estimator, EstimatorState
from zojax._kept import Same
from zojax._trees import PyTree


class ZerothOrderState(NamedTuple):
    """State of `zeroth_order`. Its types and shapes are the same from `init` on.

    NumPy, flax and equinox cannot save typed keys. Let them save the state with raw key data,
    `state._replace(rng_key=jax.random.key_data(state.rng_key))`. `update`, `replay`,
    `zojax.minimize(state=)` and `zojax.trajectory.Recorder` take such a state as it is.

    `jax.export` serializes a step that takes and returns a state. Register the optax states in it first:
    `jax.export.register_namedtuple_serialization(optax.TraceState, serialized_name="optax.TraceState")`.

    Attributes:
      rng_key: the key of the run. Step t uses `fold_in(rng_key, t)`, so any step can be replayed.
      count: int32, steps taken.
      value: the last step's value (`Estimate.value`), float32, or float64 under x64; NaN if no
        direction was finite.
      estimator_state: skipped directions, the memory of the stencil, and the counts of `zojax.verdict`.
      inner_state: state of the inner transformation.
      coefficients: the last step's `Estimate.coefficients`. The key and these determine its update.
      metrics: the last step's `zojax.Metrics`, with `zojax.with_metrics`; else ().
    """

    rng_key: jax.Array
    count: jax.Array  # type: ignore[assignment]  # the field hides tuple.count
    value: jax.Array
    estimator_state: EstimatorState
    inner_state: optax.OptState
    coefficients: jax.Array
    metrics: PyTree = ()


export.register_namedtuple_serialization(ZerothOrderState, serialized_name="zojax.ZerothOrderState")


class Scalars(NamedTuple):
    """What an inner transformation gets of a step if its update names `scalars`.

    Attributes:
      count: int32, the step's number in the run.
      coefficients: `Estimate.coefficients`, 0 for a direction that was left out. They are divided by N.
      combine: `combine(coefficients, count) -> gradient` in float32, of the step with this number. So a
        transformation can keep scalars in the place of gradients. The direction must be a function of the
        key alone, not a `zojax.directions.Adaptive`.
    """

    count: jax.Array  # type: ignore[assignment]  # the field hides tuple.count
    coefficients: jax.Array
    combine: Callable[[jax.Array, jax.Array], PyTree]


class Update(Protocol):
    """`ZerothOrder.update`: the updates passed in are ignored, and may be None."""

    def __call__(
        self,
        updates: Any,
        state: ZerothOrderState,
        params: PyTree = None,
        *,
        value_fn: Callable | None = None,
        values: Any = None,
        inner_extras: Mapping[str, Any] | None = None,
        **extras: Any,
    ) -> tuple[PyTree, ZerothOrderState]: ...


class ZerothOrder(optax.GradientTransformationExtraArgs):
    """An optax transformation that also carries its `estimator`, for ask/tell loops, and `replay`.

    `replay(state, params, coefficients, value=nan) -> (updates, state)` is, to the bit and without a
    loss, the update of the step with these `ZerothOrderState.coefficients`. See `zojax.trajectory`.

    Attributes:
      init: `init(params) -> ZerothOrderState`.
      update: `update(None, state, params, *, value_fn, inner_extras=None, **extras) -> (updates, state)`,
        or with `values` in the place of `value_fn`.
      estimator: the `Estimator`.
      replay: as above.
    """

    if TYPE_CHECKING:  # optax's own types refuse None as updates
        init: Callable[[PyTree], ZerothOrderState]  # type: ignore[assignment]
        update: Update  # type: ignore[assignment]
    estimator: Estimator
    replay: Callable[..., tuple[PyTree, ZerothOrderState]]

    def __new__(cls, init, update, estimator, replay):
        self = super().__new__(cls, init, update)
        self.estimator = estimator
        self.replay = replay
        return self

    def __getnewargs__(self):  # for copies
        return self.init, self.update, self.estimator, self.replay


# As a pytree it is like any optax transformation: its two functions.
jax.tree_util.register_pytree_node(
    ZerothOrder,
    lambda tx: ((tx.init, tx.update), (Same(tx.estimator), Same(tx.replay))),
    lambda rest, functions: ZerothOrder(*functions, *(same.value for same in rest)),
)
