"""The contract of a direction: three functions and a limit, which users may write themselves."""

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


def _unlimited(like: PyTree) -> None:
    del like


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
