"""The contracts of directions, which users may write themselves.

A `Direction` depends on a key alone. An `Adaptive` makes the `Direction` of each step from a memory.
"""

from collections.abc import Callable
from typing import NamedTuple, Protocol

import jax

from zojax._trees import PyTree


class FrameFn(Protocol):
    """Makes the shared part of the directions of one step: a seed, a basis, or any pytree of arrays."""

    def __call__(self, key: jax.Array, num_directions: int, like: PyTree, /) -> PyTree: ...


class DrawFn(Protocol):
    """Draws direction `index`, a traced integer below `num_directions`.

    The result is the tree `like` with a noise object (`zojax.noise.Noise`) for each perturbed leaf and
    `None` for each other leaf. The same arguments give the same noise.
    """

    def __call__(self, frame: PyTree, index: jax.Array, like: PyTree, /) -> PyTree: ...


class CombineFn(Protocol):
    """Sums c_i z_i over the directions, for coefficients c of shape (num_directions,).

    The result is the tree `like` with float32 arrays, or float64 for float64 leaves.
    `zojax.directions.accumulate(draw)` serves for every direction.
    """

    def __call__(self, frame: PyTree, coefficients: jax.Array, like: PyTree, /) -> PyTree: ...


class LimitFn(Protocol):
    """The largest number of directions in one step, or None without a limit."""

    def __call__(self, like: PyTree, /) -> int | None: ...


class Inputs(Protocol):
    r"""The inputs H of matrices in the loss, at the parameters of the step; see `zojax.implicit.Inputs`.

    Bases are a tree with a pair (A, B) for each matrix: A of shape (k, \*rows), B (k, \*columns).
    """

    def reads(self, bases: PyTree, /) -> PyTree:
        """How products read each matrix: `side` and `size`, or None."""
        ...

    def products(self, bases: PyTree, /) -> PyTree:
        """H'H A of each matrix that products read by rows, H'H B by columns, else zeros."""
        ...


def _unlimited(like: PyTree) -> None:
    del like


class MovingFn(Protocol):
    """Which leaves a step moves: (number, sets), one of a few trees of bools like `like`."""

    def __call__(self, like: PyTree, /) -> tuple[jax.Array, list[PyTree]]: ...


class Direction(NamedTuple):
    """Which way to step: makes and sums the directions z_0 ... z_{N-1} of one step.

    Normalise z to E zz' = I over the perturbed coordinates: then the estimate is the gradient of the
    smoothed loss. `like` describes the parameters: a `jax.ShapeDtypeStruct` for each float leaf, `None`
    for others.

    Attributes:
      frame: `frame(key, num_directions, like)` makes the shared part of the directions of one step.
      draw: `draw(frame, index, like)` gives direction `index`, a tree of noise objects.
      combine: `combine(frame, coefficients, like)` gives the sum of c_i z_i.
      max_directions: `max_directions(like)` is the largest number of directions in one step, or None.
      shares_products: whether directions are cheapest evaluated together, under `vmap`.
      moving: `moving(like) -> (number, sets)`: this step moves the leaves of `sets[number]` alone. The loss
        compiles once for each set, and what the points of a direction share is evaluated once. None: all
        leaves move.

    >>> import jax, jax.numpy as jnp, zojax
    >>> from zojax import directions, noise
    >>> def frame(key, num_directions, like):
    ...     return noise.make_seed(key)
    >>> def draw(frame, index, like):
    ...     seed = noise.child_seeds(frame, index, 1)[0]
    ...     return noise.row_noise(noise.Signs(seed), like.shape)
    >>> signs = directions.Direction(frame, draw, directions.accumulate(draw))
    >>> grads = zojax.grad(lambda x: jnp.sum(x), zojax.estimator(signs))(0, jnp.ones(3))
    >>> grads.shape
    (3,)
    """

    frame: FrameFn
    draw: DrawFn
    combine: CombineFn
    max_directions: LimitFn = _unlimited
    shares_products: bool = False
    moving: MovingFn | None = None


class Outcome(NamedTuple):
    """What a step found, for `Adaptive.learn`.

    Attributes:
      grads: the estimate, as the float leaves of the parameters.
      coefficients: `Estimate.coefficients`, 0 for a direction that was left out.
      mu: the smoothing radius.
      frame: of the directions of the step, which `Direction.draw` makes again.
    """

    grads: PyTree
    coefficients: jax.Array
    mu: jax.Array
    frame: PyTree


def _unchanged(memory: PyTree, *rest) -> PyTree:
    del rest
    return memory


class Adaptive(NamedTuple):
    """A direction that changes with the run: a memory, and the `Direction` that it gives.

    A step calls `begin`, then `direction`, then `learn`. The memory is part of the state of
    `zojax.zeroth_order`, so a log replays it. It is a pytree of arrays whose shapes and dtypes never
    change. Without a state, as in `zojax.value_and_grad`, each call is a first step.

    Attributes:
      init: `init(like) -> memory`, before the first step.
      direction: `direction(memory, params) -> Direction` of one step. `params` has None at leaves that are
        not floating point.
      begin: `begin(memory, key, params) -> memory`, before the directions of a step. The key is the step's
        own, so this draws what several steps share. By default nothing changes.
      learn: `learn(memory, outcome) -> memory`, after a step with a finite direction, see `Outcome`. By
        default nothing changes.
      max_directions: as in `Direction`.
      shares_products: as in `Direction`.
      look: `look(memory, key, params, inputs) -> (memory, Direction)`, in the place of `direction` where a
        step has a loss; see `Inputs`. None for directions that read no loss. `direction` raises ValueError
        if the direction needs one: then values cannot come from outside, and logs are not replayed.

    Signs that favour the coordinates in which the last estimate was large:

    >>> import jax, jax.numpy as jnp, zojax
    >>> from zojax import directions
    >>> signs = directions.rademacher()
    >>> def scaled(memory, params):
    ...     def draw(frame, index, like):
    ...         return zojax.noise.ScaledNoise(signs.draw(frame, index, like), 1 + memory)
    ...     return signs._replace(draw=draw, combine=directions.accumulate(draw))
    >>> favouring = directions.Adaptive(
    ...     init=lambda like: jnp.zeros(like.shape),
    ...     direction=scaled,
    ...     learn=lambda memory, outcome: jnp.abs(outcome.grads) / jnp.max(jnp.abs(outcome.grads)),
    ... )
    >>> tx = zojax.zo_sgd(0.1, zojax.estimator(favouring))
    >>> params = jnp.ones(3)
    >>> updates, state = tx.update(None, tx.init(params), params, value_fn=lambda x: jnp.sum(x**2))
    >>> state.estimator_state.direction
    Array([1., 1., 1.], dtype=float32)
    """

    init: Callable[[PyTree], PyTree]
    direction: Callable[[PyTree, PyTree], Direction]
    begin: Callable[[PyTree, jax.Array, PyTree], PyTree] = _unchanged
    learn: Callable[[PyTree, Outcome], PyTree] = _unchanged
    max_directions: LimitFn = _unlimited
    shares_products: bool = False
    look: Callable[[PyTree, jax.Array, PyTree, Inputs], tuple[PyTree, Direction]] | None = None

    def of_step(
        self, memory: PyTree, key: jax.Array, params: PyTree, inputs: Inputs | None
    ) -> tuple[PyTree, Direction]:
        """(memory, Direction) of a step with this key; `inputs` of its loss, or None without one."""
        memory = self.begin(memory, key, params)
        if self.look is None or inputs is None:
            return memory, self.direction(memory, params)
        return self.look(memory, key, params, inputs)
