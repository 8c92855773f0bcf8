"""FZOO = rademacher x forward x differences over their std, then sgd."""

from functools import partial

import jax
import optax

from zojax import shaping, stencils
from zojax._checks import require_rate
from zojax._direction import Direction
from zojax._estimator import UpdateKind, estimator
from zojax._transform import ZerothOrder, zeroth_order


def fzoo(
    learning_rate: float | optax.Schedule = 5e-5,
    mu: float | optax.Schedule = 1e-4,
    num_directions: int = 8,
    direction: Direction | None = None,
    batch_size: int | None = None,
    axis_name: str | None = None,
    update: UpdateKind = "scalars",
    key: int | jax.Array = 0,
) -> ZerothOrder:
    r"""Steps in units of the spread of the losses around x.

    .. math::
        x \leftarrow x - \frac{\eta}{N \sigma} \sum_{i=1}^N (L(x + \mu u_i) - L(x))\, u_i

    for signs u, with :math:`\sigma` the standard deviation of the N values :math:`L(x + \mu u_i)`. The
    radius cancels, so eta is the length of a step and not of a gradient. A step is N + 1 evaluations and
    keeps no state.

    Independent evidence: none. The speedups are from its own paper.

    Args:
      learning_rate: eta, a float or a schedule.
      mu: smoothing radius, a float or a schedule.
      num_directions: N, at least 2.
      direction: `directions.rademacher()` by default, as in the paper.
      batch_size, axis_name, update: how directions are spread, see `zojax.estimator`.
      key: of the run.

    Returns:
      A `ZerothOrder`, see `zojax.zeroth_order`.

    Raises:
      ValueError: fewer than 2 directions.

    References:
      `FZOO: fast zeroth-order optimizer for fine-tuning large language models towards Adam-scale speed
      <https://arxiv.org/abs/2506.09034>`_, 2025.

    >>> import jax.numpy as jnp, optax, zojax
    >>> tx = zojax.fzoo(learning_rate=0.1)
    >>> params = jnp.ones(3)
    >>> state = tx.init(params)
    >>> updates, state = tx.update(None, state, params, value_fn=lambda x: jnp.sum(x**2))
    >>> updates.shape
    (3,)
    """
    require_rate("learning_rate", learning_rate)
    sampled = partial(estimator, batch_size=batch_size, axis_name=axis_name, update=update)
    choices = direction, stencils.forward(), shaping.unit_std()
    source = sampled(*choices, mu=mu, num_directions=num_directions)
    return zeroth_order(optax.sgd(learning_rate), source, key)
