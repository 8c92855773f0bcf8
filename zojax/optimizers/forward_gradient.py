"""Forward gradient = normal x the derivative along it, then sgd."""

from functools import partial

import jax
import optax

from zojax import directions, stencils
from zojax._checks import require_rate
from zojax._direction import Direction
from zojax._estimator import UpdateKind, estimator
from zojax._transform import ZerothOrder, zeroth_order


def forward_gradient(
    learning_rate: float | optax.Schedule,
    num_directions: int = 1,
    momentum: float | None = None,
    direction: Direction | None = None,
    batch_size: int | None = None,
    axis_name: str | None = None,
    update: UpdateKind = "scalars",
    key: int | jax.Array = 0,
) -> ZerothOrder:
    r"""Exact directional derivatives by forward-mode differentiation.

    .. math::
        x \leftarrow x - \frac{\eta}{N} \sum_i (\nabla L(x) \cdot z_i)\, z_i

    No radius and no bias, but the loss must be differentiable by `jax.jvp`. The compositions are those of
    other estimators: any optax chain takes `zojax.estimator(..., linearize=True)`. A step is N jvps, each
    of about two evaluations, and holds the noise of a leaf and the tangents of a layer; with momentum two
    copies of the parameters. There is no other state.

    Independent evidence: the MeZO paper measures 2.5 times its memory. Where a jvp runs, try
    backpropagation with `jax.checkpoint` first: it gives the whole gradient.

    Args:
      learning_rate: eta, a float or a schedule.
      num_directions: N.
      momentum: decay of `optax.trace`; None keeps no state.
      direction: `directions.normal()` by default, as in the paper.
      batch_size, axis_name, update: how directions are spread, see `zojax.estimator`.
      key: of the run.

    Returns:
      A `ZerothOrder`, see `zojax.zeroth_order`.

    References:
      Baydin et al., `Gradients without backpropagation <https://arxiv.org/abs/2202.08587>`_, 2022.

    >>> import jax.numpy as jnp, optax, zojax
    >>> tx = zojax.forward_gradient(0.1)
    >>> params = jnp.ones(3)
    >>> state = tx.init(params)
    >>> updates, state = tx.update(None, state, params, value_fn=lambda x: jnp.sum(x**2))
    >>> updates.shape
    (3,)
    """
    require_rate("learning_rate", learning_rate)
    sampled = partial(estimator, batch_size=batch_size, axis_name=axis_name, update=update)
    direction = directions.normal() if direction is None else direction
    source = sampled(direction, stencils.forward(), num_directions=num_directions, linearize=True)
    return zeroth_order(optax.sgd(learning_rate, momentum), source, key)
