"""Pairs of normals, shorter in coordinates of large curvature."""

from functools import partial

import jax
import jax.numpy as jnp

from zojax import noise
from zojax._checks import require_fraction, require_positive
from zojax._direction import Adaptive, Direction, Outcome
from zojax._numerics import accumulator_dtype
from zojax._sharding import full_like
from zojax._trees import PyTree, structure_of
from zojax.directions.normal import normal
from zojax.directions.separable import squares_less_one


def curvature(smoothing: float = 1e-6, floor: float = 1e-2) -> Adaptive:
    r""":math:`z_{2i} = s_i / \sqrt h, \; z_{2i+1} = -z_{2i}`, s normal, h estimates the Hessian's diagonal.

    .. math::
        b \leftarrow (1 - \alpha)\, b + \alpha\, \frac{h}{P} \sum_{i \le P}
        \frac{L(x + \mu z_{2i}) + L(x - \mu z_{2i}) - 2 L(x)}{2 \mu^2} (s_i^2 - 1), \qquad
        h = \max(|b|, h_{\min})

    The term averages to :math:`\nabla^2_{jj} L` in coordinate j. The published one has :math:`s_i^2` in
    the place of :math:`s_i^2 - 1` and averages to :math:`(\mathrm{tr} H' + 2 H'_{jj})/2`, of which the
    trace is nearly all in high dimension. The noise of one term grows with the trace too: take alpha
    small.

    b starts at 1; it is the memory, a copy of the parameters. E zz' is :math:`\mathrm{diag}(1/h)`: an
    estimate is a step of a diagonal Newton method, not the gradient. Use `stencils.forward`, whose value
    at x the pairs share.

    Args:
      smoothing: alpha, in (0, 1].
      floor: h_min, positive.

    Returns:
      An `Adaptive` direction; the number of directions is even, 2 P.

    References:
      Zhao et al., `HiZOO <https://arxiv.org/abs/2402.15173>`_, 2024.

    >>> import jax.numpy as jnp, zojax
    >>> tx = zojax.hizoo(learning_rate=0.01, smoothing=0.1)
    >>> params = jnp.ones(3)
    >>> _, state = tx.update(None, tx.init(params), params, value_fn=lambda x: jnp.sum(x**2))
    >>> state.estimator_state.direction.shape
    (3,)
    """
    alpha = require_fraction("smoothing", smoothing)
    require_positive("floor", floor)

    return Adaptive(_ones, partial(_of_step, floor), learn=partial(_learn, alpha, floor))


def _ones(like):
    return jax.tree.map(lambda leaf: full_like(leaf, 1, accumulator_dtype(leaf.dtype)), like)


def _length(floor: float, b: jax.Array) -> jax.Array:
    """1 / sqrt(h)."""
    return 1 / jnp.sqrt(jnp.maximum(jnp.abs(b), floor).astype(jnp.float32))


def _of_step(floor: float, memory: PyTree, params: PyTree) -> Direction:
    del params
    base, length = normal(), partial(_length, floor)

    def frame(key, num_directions, like):
        if num_directions % 2:
            raise ValueError(
                f"num_directions must be even, got {num_directions}: curvature needs pairs."
            )
        return base.frame(key, num_directions // 2, like)

    def draw(frame, index, like):
        index = jnp.asarray(index).astype(jnp.int32)
        sign = (1 - 2 * (index % 2)).astype(jnp.float32)
        drawn = base.draw(frame, index // 2, like)
        return jax.tree.map(
            lambda _, b, z: noise.ScaledNoise(z, sign * length(b)), like, memory, drawn
        )

    def combine(frame, coefficients, like):
        total = base.combine(frame, coefficients[::2] - coefficients[1::2], like)
        return jax.tree.map(lambda t, b: length(b).astype(t.dtype) * t, total, memory)

    return base._replace(frame=frame, draw=draw, combine=combine)


def _learn(alpha: float, floor: float, memory: PyTree, outcome: Outcome) -> PyTree:
    # The coefficients of a pair add to (L+ + L- - 2 L) / (2 mu P).
    plus, minus = outcome.coefficients[::2], outcome.coefficients[1::2]
    has_both = (plus != 0) & (minus != 0)  # half a pair is a slope, not a curvature
    seconds = jnp.where(has_both, plus + minus, 0) / outcome.mu
    moments = squares_less_one(normal(), outcome.frame, seconds, structure_of(memory))

    def update(b, moment):
        return (1 - alpha) * b + alpha * jnp.maximum(jnp.abs(b), floor) * moment

    return jax.tree.map(update, memory, moments)
