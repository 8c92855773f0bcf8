"""Normals with a scale of their own for each coordinate, learned by natural evolution."""

import math
from functools import partial

import jax
import jax.numpy as jnp

from zojax import noise
from zojax._checks import require_rate
from zojax._direction import Adaptive, Direction, Outcome
from zojax._numerics import accumulator_dtype
from zojax._sharding import full_like
from zojax._trees import PyTree, structure_of, total_size
from zojax.directions._combine import accumulate
from zojax.directions.normal import normal


def separable(rate: float | None = None) -> Adaptive:
    r""":math:`z = \sigma \odot s`, s normal, with one scale a coordinate.

    .. math::
        \sigma \leftarrow \sigma \exp\left(-\frac{\eta}{2} \sum_i u_i (s_i^2 - 1)\right)

    for the shaped values :math:`u_i = N \mu c_i` of `stencils.one_point`, such as
    `shaping.nes_utilities`. Scales start at 1 and the memory is their logarithm, a copy of the
    parameters. The target is the natural gradient: E zz' is :math:`\mathrm{diag}(\sigma^2)`.

    Args:
      rate: eta; :math:`(3 + \ln d) / (5 \sqrt d)` by default.

    References:
      Wierstra et al., `Natural evolution strategies
      <https://www.jmlr.org/papers/v15/wierstra14a.html>`_, 2014.

    >>> import jax.numpy as jnp, zojax
    >>> tx = zojax.snes(mu=0.1, population=8)
    >>> params = jnp.ones(3)
    >>> _, state = tx.update(None, tx.init(params), params, value_fn=lambda x: jnp.sum(x**2))
    >>> state.estimator_state.direction.shape
    (3,)
    """
    if rate is not None:
        require_rate("rate", rate)

    return Adaptive(_zeros, _of_step, learn=partial(_learn, rate))


def _of_step(memory: PyTree, params: PyTree) -> Direction:
    del params
    base = normal()

    def draw(frame, index, like):
        drawn = base.draw(frame, index, like)
        return jax.tree.map(
            lambda _, log, z: noise.ScaledNoise(z, jnp.exp(log)), like, memory, drawn
        )

    def combine(frame, coefficients, like):
        total = base.combine(frame, coefficients, like)
        return jax.tree.map(lambda t, log: jnp.exp(log).astype(t.dtype) * t, total, memory)

    return base._replace(draw=draw, combine=combine)


def _learn(rate: float | None, memory: PyTree, outcome: Outcome) -> PyTree:
    d = total_size(memory)
    eta = (3 + math.log(d)) / (5 * math.sqrt(d)) if rate is None else rate
    utilities = len(outcome.coefficients) * outcome.mu * outcome.coefficients
    moments = squares_less_one(normal(), outcome.frame, utilities, structure_of(memory))
    return jax.tree.map(lambda log, m: log - 0.5 * eta * m, memory, moments)


def squares_less_one(direction: Direction, frame, coefficients: jax.Array, like: PyTree) -> PyTree:
    """The sum of c_i (s_i^2 - 1) over the directions s_i of a frame."""

    def squares(frame, index, like):
        drawn = direction.draw(frame, index, like)
        return jax.tree.map(lambda _, s: noise.StoredNoise(jnp.square(s.dense()) - 1), like, drawn)

    return accumulate(squares)(frame, coefficients, like)


def _zeros(like):
    return jax.tree.map(lambda leaf: full_like(leaf, 0, accumulator_dtype(leaf.dtype)), like)
