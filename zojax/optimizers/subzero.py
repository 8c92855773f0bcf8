"""SubZero = matrices between two fixed orthonormal bases x central, then sgd."""

from functools import partial

import jax
import optax

from zojax import directions
from zojax._checks import require_rate
from zojax._estimator import UpdateKind, estimator
from zojax._transform import ZerothOrder, zeroth_order


def subzero(
    learning_rate: float | optax.Schedule = 1e-6,
    mu: float | optax.Schedule = 1e-3,
    num_directions: int = 1,
    rank: int = 24,
    refresh: int = 1000,
    batch_size: int | None = None,
    axis_name: str | None = None,
    update: UpdateKind = "scalars",
    key: int | jax.Array = 0,
) -> ZerothOrder:
    r"""Random subspaces that stay for many steps.

    .. math::
        Z = \frac{\sqrt{mn}}{r}\, U Z_0 V^\top, \qquad X \leftarrow X - \eta\, c Z

    U and V are orthonormal, new every `refresh` steps; Z_0 is an r x r normal matrix, new in each step.
    Vectors take normal directions. A step is 2 N evaluations. The state is r (m + n) numbers for each m x
    n matrix, and a step holds the estimate if r is above 8.

    Independent evidence: none. Over its life a subspace holds a share r^2 / (mn) of the gradient. The scale
    makes up for it in the mean.

    Args:
      learning_rate: eta, a float or a schedule.
      mu: smoothing radius, a float or a schedule.
      num_directions: N.
      rank: r; the paper's 24 to 48.
      refresh: steps in one subspace; the paper's 500 to 2,000.
      batch_size, axis_name, update: how directions are spread, see `zojax.estimator`.
      key: of the run.

    Returns:
      A `ZerothOrder`, see `zojax.zeroth_order`.

    References:
      Yu et al., `Zeroth-order fine-tuning of LLMs in random subspaces
      <https://arxiv.org/abs/2410.08989>`_, 2024.

    >>> import jax.numpy as jnp, optax, zojax
    >>> tx = zojax.subzero(learning_rate=0.01, rank=2)
    >>> params = jnp.ones((4, 3))
    >>> state = tx.init(params)
    >>> updates, state = tx.update(None, state, params, value_fn=lambda x: jnp.sum(x**2))
    >>> updates.shape
    (4, 3)
    """
    require_rate("learning_rate", learning_rate)
    sampled = partial(estimator, batch_size=batch_size, axis_name=axis_name, update=update)
    direction = directions.subspace(rank, "both", refresh)
    source = sampled(direction, mu=mu, num_directions=num_directions)
    return zeroth_order(optax.sgd(learning_rate), source, key)
