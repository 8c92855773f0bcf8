"""ZO momentum = any estimator, then a momentum summed from the scalars of the last steps."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from zojax._checks import require_count, require_rate
from zojax._estimator import Estimator
from zojax._estimator import estimator as make_estimator
from zojax._estimator.coefficients import coefficients_dtype
from zojax._numerics import accumulator_dtype
from zojax._transform import ZerothOrder, zeroth_order
from zojax.optimizers._shared import Scheduled, documented


class _Past(NamedTuple):
    """The coefficients of the last steps, and their numbers in the run, the latest first."""

    coefficients: jax.Array
    steps: jax.Array


@documented
def zo_momentum(
    learning_rate: Scheduled,
    estimator: Estimator | None = None,
    momentum: float = 0.9,
    horizon: int = 32,
    key: int | jax.Array = 0,
) -> ZerothOrder:
    r"""Momentum without a copy of the parameters: the directions of past steps are made again.

    .. math::
        m_t = (1 - \beta) \sum_{j = t - K + 1}^{t} \beta^{t - j} \sum_i c_{ji} z_{ji}, \qquad
        x \leftarrow x - \eta\, m_t

    A step is the evaluations of the estimator, and the noise of K steps: K times that of `zo_sgd`. The
    state is K (N + 1) scalars, and a step holds one sum as large as the parameters. Terms beyond the
    horizon are dropped, a share :math:`\beta^K` of the sum. If memory suffices, `zo_sgd(momentum=)` is
    faster: it stores one copy of the parameters.

    Independent evidence: none. The idea is in the papers on MeZO and AdaMeZO. In
    `python -m benchmarks methods` it ties with `mezo` on all five works.

    Args:
      estimator: `zojax.estimator()` by default: one rademacher direction, central difference. Its direction
        is a function of the key alone.
      momentum: beta.
      horizon: K, the number of steps that count.

    References:
      Malladi et al., `Fine-tuning language models with just forward passes
      <https://arxiv.org/abs/2305.17333>`_, 2023; Cai, Chen and Zhu, `AdaMeZO
      <https://arxiv.org/abs/2605.00650>`_, 2026.

    >>> import jax, jax.numpy as jnp, optax, zojax
    >>> tx = zojax.zo_momentum(0.1, horizon=8)
    >>> params = jnp.ones(3)
    >>> updates, state = tx.update(None, tx.init(params), params, value_fn=lambda x: jnp.sum(x**2))
    >>> sum(x.size for x in jax.tree.leaves(state.inner_state))
    16
    """
    require_rate("learning_rate", learning_rate)
    require_rate("momentum", momentum)
    horizon = require_count("horizon", horizon)
    source = make_estimator() if estimator is None else estimator

    weights = (1 - momentum) * momentum ** np.arange(horizon)

    def init(params):
        dtype = coefficients_dtype(jax.tree.leaves(params))
        rows = jnp.zeros((horizon, source.num_directions), dtype)
        return _Past(rows, jnp.zeros(horizon, jnp.int32))

    def update(grads, state, params=None, *, scalars, **extras):
        del params, extras
        past = jax.tree.map(
            lambda new, old: jnp.concatenate([new[None], old[:-1]]).astype(old.dtype),
            _Past(scalars.coefficients, scalars.count),
            state,
        )

        def add(total, step):
            weight, (coefficients, count) = step
            return jax.tree.map(jnp.add, total, scalars.combine(weight * coefficients, count)), None

        zeros = jax.tree.map(lambda g: jnp.zeros(g.shape, accumulator_dtype(g.dtype)), grads)
        total, _ = jax.lax.scan(add, zeros, (weights.astype(past.coefficients.dtype), past))
        return jax.tree.map(lambda m, g: m.astype(g.dtype), total, grads), past

    inner = optax.GradientTransformationExtraArgs(init, update)
    inner = optax.chain(inner, optax.scale_by_learning_rate(learning_rate))
    return zeroth_order(inner, source, key)
