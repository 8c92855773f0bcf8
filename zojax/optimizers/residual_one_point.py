"""Residual feedback = normal x one_point_residual, then sgd."""

from functools import partial

import jax
import optax

from zojax import directions, stencils
from zojax._checks import require_rate
from zojax._direction import Direction
from zojax._estimator import UpdateKind, estimator
from zojax._transform import ZerothOrder, zeroth_order


def residual_one_point(
    learning_rate: float | optax.Schedule,
    mu: float | optax.Schedule = 1e-2,
    num_directions: int = 1,
    direction: Direction | None = None,
    batch_size: int | None = None,
    axis_name: str | None = None,
    update: UpdateKind = "scalars",
    key: int | jax.Array = 0,
) -> ZerothOrder:
    r"""One evaluation a step: the difference from the last step's value.

    .. math::
        x_{t+1} = x_t - \frac{\eta}{\mu}
        \left(L_t(x_t + \mu z_t) - L_{t-1}(x_{t-1} + \mu z_{t-1})\right) z_t

    For losses that can be asked once only, as online or on a moving system. With more directions the
    baseline is the mean of the last step's values. A step is N evaluations. The state is one scalar.

    Independent evidence: none. Two evaluations of the same data have far less variance: if you can ask
    twice, use `mezo`.

    Args:
      learning_rate: eta, a float or a schedule.
      mu: smoothing radius, a float or a schedule.
      num_directions: N.
      direction: `directions.normal()` by default, as in the paper.
      batch_size, axis_name, update: how directions are spread, see `zojax.estimator`.
      key: of the run.

    Returns:
      A `ZerothOrder`, see `zojax.zeroth_order`.

    References:
      Zhang et al., `A new one-point residual-feedback oracle for black-box learning and control
      <https://arxiv.org/abs/2006.10820>`_, 2022.

    >>> import jax.numpy as jnp, optax, zojax
    >>> tx = zojax.residual_one_point(1e-3, mu=0.1)
    >>> params = jnp.ones(3)
    >>> state = tx.init(params)
    >>> updates, state = tx.update(None, state, params, value_fn=lambda x: jnp.sum(x**2))
    >>> updates.shape
    (3,)
    """
    require_rate("learning_rate", learning_rate)
    sampled = partial(estimator, batch_size=batch_size, axis_name=axis_name, update=update)
    direction = directions.normal() if direction is None else direction
    source = sampled(direction, stencils.one_point_residual(), mu=mu, num_directions=num_directions)
    return zeroth_order(optax.sgd(learning_rate), source, key)
