"""Guided ES = guided normals x central, then sgd."""

from functools import partial

import jax
import optax

from zojax import directions
from zojax._checks import require_rate
from zojax._estimator import UpdateKind, estimator
from zojax._transform import ZerothOrder, zeroth_order


def guided_es(
    learning_rate: float | optax.Schedule,
    mu: float | optax.Schedule = 1e-2,
    num_directions: int = 1,
    history: int = 10,
    alpha: float = 0.5,
    momentum: float | None = None,
    batch_size: int | None = None,
    axis_name: str | None = None,
    update: UpdateKind = "scalars",
    key: int | jax.Array = 0,
) -> ZerothOrder:
    r"""Half of each direction lies in the span of the last estimates.

    .. math::
        z_i = \sqrt\alpha\, \epsilon_i + \sqrt{(1 - \alpha) d / k}\; U \epsilon_i', \qquad
        x \leftarrow x - \frac{\eta}{N} \sum_i c_i z_i

    with U an orthonormal basis of the last k estimates. The paper guides by gradients of a surrogate;
    here the past estimates are the surrogate. Its standard deviation is :math:`\mu \sqrt d`. A step is 2
    N evaluations. The state is k copies of the parameters, and a step holds k + 1 more.

    Independent evidence: helpful with a real surrogate. Past estimates of a noisy gradient say little in
    high dimension: their span holds a share of about k N / d of it.

    Args:
      learning_rate: eta, a float or a schedule.
      mu: smoothing radius, a float or a schedule.
      num_directions: N.
      history: k.
      alpha: share of the full space; the paper's 0.5.
      momentum: decay of `optax.trace`; None keeps no more state.
      batch_size, axis_name, update: how directions are spread, see `zojax.estimator`.
      key: of the run.

    Returns:
      A `ZerothOrder`, see `zojax.zeroth_order`.

    References:
      Maheswaranathan et al., `Guided evolutionary strategies <https://arxiv.org/abs/1806.10230>`_, 2019.

    >>> import jax.numpy as jnp, optax, zojax
    >>> tx = zojax.guided_es(0.1, history=2)
    >>> params = jnp.ones(3)
    >>> state = tx.init(params)
    >>> updates, state = tx.update(None, state, params, value_fn=lambda x: jnp.sum(x**2))
    >>> updates.shape
    (3,)
    """
    require_rate("learning_rate", learning_rate)
    sampled = partial(estimator, batch_size=batch_size, axis_name=axis_name, update=update)
    source = sampled(directions.guided(history, alpha), mu=mu, num_directions=num_directions)
    return zeroth_order(optax.sgd(learning_rate, momentum), source, key)
