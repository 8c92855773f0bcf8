"""SPSA = rademacher x central with Spall's gain sequences, then sgd."""

from functools import partial

import jax
import jax.numpy as jnp
import optax

from zojax._checks import require_no_schedule, require_positive, require_rate
from zojax._direction import Direction
from zojax._estimator import UpdateKind, estimator
from zojax._transform import ZerothOrder, zeroth_order


def spsa(
    a: float,
    c: float,
    A: float = 0.0,
    alpha: float = 0.602,
    gamma: float = 0.101,
    num_directions: int = 1,
    direction: Direction | None = None,
    batch_size: int | None = None,
    axis_name: str | None = None,
    update: UpdateKind = "scalars",
    key: int | jax.Array = 0,
) -> ZerothOrder:
    r"""Simultaneous perturbation stochastic approximation.

    At step k = 0, 1, ... the learning rate is :math:`a / (k + 1 + A)^\alpha` and the smoothing radius
    :math:`\mu = c / (k + 1)^\gamma`. The names are Spall's. He advises A of a tenth of the planned steps,
    and c of the size of the noise in the values. A step without a finite value advances the radius only.

    Args:
      a: gain of the steps.
      c: gain of the smoothing radius.
      A: stability constant, at least 0.
      alpha: decay of the steps.
      gamma: decay of the radius.
      num_directions: N.
      direction: `directions.rademacher()` by default; SPSA needs E|1/z| finite, so not the normal.
      batch_size, axis_name, update: how directions are spread, see `zojax.estimator`.
      key: of the run.

    Returns:
      A `ZerothOrder`, see `zojax.zeroth_order`.

    Raises:
      ValueError: a or c not positive, or A, alpha or gamma negative.

    References:
      Spall, `Implementation of the simultaneous perturbation algorithm for stochastic optimization
      <https://doi.org/10.1109/7.705889>`_, 1998.

    >>> import jax.numpy as jnp, optax, zojax
    >>> tx = zojax.spsa(a=0.1, c=0.1, A=10)
    >>> params = jnp.ones(3)
    >>> state = tx.init(params)
    >>> updates, state = tx.update(None, state, params, value_fn=lambda x: jnp.sum(x**2))
    >>> print(round(float(state.value), 2))
    3.03
    """
    for name, gain in (("a", a), ("c", c)):
        require_positive(name, gain)
    for name, value in (("A", A), ("alpha", alpha), ("gamma", gamma)):
        require_no_schedule(name, value)
        require_rate(name, value)

    def radius(k):
        return c / (jnp.float32(k) + 1) ** gamma

    def rate(k):
        return a / (jnp.float32(k) + 1 + A) ** alpha

    sampled = partial(estimator, batch_size=batch_size, axis_name=axis_name, update=update)
    source = sampled(direction, mu=radius, num_directions=num_directions)
    return zeroth_order(optax.sgd(rate), source, key)
