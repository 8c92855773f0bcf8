"""HiZOO = pairs scaled by curvature x forward, then sgd."""

from functools import partial

import jax
import optax

from zojax import directions, stencils
from zojax._checks import require_count, require_rate
from zojax._estimator import UpdateKind, estimator
from zojax._transform import ZerothOrder, zeroth_order


def hizoo(
    learning_rate: float | optax.Schedule = 1e-6,
    mu: float | optax.Schedule = 1e-3,
    num_pairs: int = 1,
    smoothing: float = 1e-6,
    floor: float = 1e-2,
    batch_size: int | None = None,
    axis_name: str | None = None,
    update: UpdateKind = "scalars",
    key: int | jax.Array = 0,
) -> ZerothOrder:
    r"""Steps scaled by an estimate of the Hessian's diagonal, with the estimator of the curvature mended.

    .. math::
        x \leftarrow x - \frac{\eta}{P} \sum_i
        \frac{L(x + \mu z_i) - L(x - \mu z_i)}{2\mu}\, z_i, \qquad z_i = s_i / \sqrt h

    `directions.curvature` has the formula of h and the reason for the mend. A step is 2 P + 1
    evaluations. The state is one copy of the parameters, and a step holds two more.

    Independent evidence: none. One second difference has noise of the size of the trace, so in high
    dimension h stays near 1 for many steps.

    Args:
      learning_rate: eta, a float or a schedule.
      mu: smoothing radius, a float or a schedule.
      num_pairs: P; the paper's 1.
      smoothing: alpha, the weight of a step's curvature.
      floor: least h, positive.
      batch_size, axis_name, update: how directions are spread, see `zojax.estimator`.
      key: of the run.

    Returns:
      A `ZerothOrder`, see `zojax.zeroth_order`.

    References:
      Zhao et al., `Second-order fine-tuning without pain for LLMs: a Hessian informed zeroth-order
      optimizer <https://arxiv.org/abs/2402.15173>`_, 2024.

    >>> import jax.numpy as jnp, optax, zojax
    >>> tx = zojax.hizoo(learning_rate=0.01)
    >>> params = jnp.ones(3)
    >>> state = tx.init(params)
    >>> updates, state = tx.update(None, state, params, value_fn=lambda x: jnp.sum(x**2))
    >>> updates.shape
    (3,)
    """
    require_rate("learning_rate", learning_rate)
    sampled = partial(estimator, batch_size=batch_size, axis_name=axis_name, update=update)
    curvature, n = directions.curvature(smoothing, floor), 2 * require_count("num_pairs", num_pairs)
    source = sampled(curvature, stencils.forward(), mu=mu, num_directions=n)
    return zeroth_order(optax.sgd(learning_rate), source, key)
