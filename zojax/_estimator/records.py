"""The records of an estimator: its choices, its state between steps, and one estimate."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import jax
from jax import export
from optax import Schedule

from zojax._direction import Adaptive, Direction
from zojax._mesh_axis import MeshAxis
from zojax._trees import PyTree, Split
from zojax.shaping import Shaping
from zojax.stencils import Stencil

# Which devices sum the directions: all of them, or each group a slice of the gradient.
UpdateKind = Literal["scalars", "sliced"]


class EstimatorState(NamedTuple):
    """State of an estimator between steps.

    A replay evaluates no loss. So `zojax.trajectory.resume` restarts `used` and the counts below it.
    `zojax.verdict` reads these fields.

    Attributes:
      skipped: int32, directions left out because an evaluation was not finite.
      previous: the mean value of the last step that had one; float32, or float64 under x64.
      started: bool, whether `previous` is set.
      used: int32, directions used.
      flat: int32, the sum of `Estimate.flat`.
      unresolved: int32, directions whose values differ by less than 8 units in the last place of
        float32 (float64 for float64 values). Flat directions count.
      clipped: int32, the sum of `Estimate.clipped`, at most 2^31 - 1.
      first: the first finite `Estimate.value`; dtype as `previous`.
      least: the least finite `Estimate.value`.
      direction: the memory of a `zojax.directions.Adaptive`; () for other directions.
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
    direction: PyTree = ()


export.register_namedtuple_serialization(EstimatorState, serialized_name="zojax.EstimatorState")


class Estimate(NamedTuple):
    """One estimate of a gradient.

    Attributes:
      value: the loss at x if the stencil visits x, else the mean over the evaluations. Only finite
        directions count; NaN without any.
      grads: as the parameters; zeros for integer and bool leaves, None for keys. A float16 or float8
        leaf is clipped to the range of its dtype (65,504); see `clipped`.
      aux: the auxiliary output of the loss, stacked over evaluations on a leading axis.
      used: int32, directions whose evaluations were all finite.
      state: the next EstimatorState.
      coefficients: c, of shape (N,); NaN for a direction that was left out, which `jax_debug_nans`
        raises. float32, or float64 where a parameter is.
      flat: int32, used directions with equal values at different points. Then mu is too small for the
        dtypes, or so large that x + mu z loses x. A stencil of one point compares with the previous
        step's mean.
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
class Choices:
    """The checked arguments of `zojax.estimator`."""

    direction: Direction | Adaptive
    stencil: Stencil
    shaping: Shaping
    mu: float | Schedule
    num_directions: int
    batch_size: int | None
    with_key: bool
    hold_in_loops: bool | None
    linearize: bool
    axis_name: str | None
    update: UpdateKind

    @property
    def moved(self) -> tuple[float, ...]:
        """The offsets of the stencil away from x."""
        return tuple(o for o in self.stencil.offsets if o)

    @property
    def centered(self) -> bool:
        """Whether the stencil evaluates x itself."""
        return 0.0 in self.stencil.offsets

    @property
    def looks(self) -> bool:
        """Whether the direction reads the loss at x itself."""
        return isinstance(self.direction, Adaptive) and self.direction.look is not None

    @property
    def evaluations(self) -> int:
        return self.num_directions * len(self.moved) + self.centered + self.looks


class Directions(NamedTuple):
    """The directions of one step, not yet drawn.

    Attributes:
      direction: of this step.
      memory: of an `Adaptive`, after `begin`.
      frame: from `Direction.frame`, shared by all directions.
      split: the shapes and dtypes of the parameters.
      like: of the float leaves alone, as directions see them.
      slicing: the mesh axis over which the gradient is sliced, or None.
    """

    direction: Direction
    memory: PyTree
    frame: PyTree
    split: Split
    like: PyTree
    slicing: MeshAxis | None
