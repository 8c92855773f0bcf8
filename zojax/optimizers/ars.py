"""ARS = normal x central x top, then sgd."""

from typing import Unpack

from zojax import directions, shaping
from zojax._checks import require_count, require_rate
from zojax._direction import Direction
from zojax._transform import ZerothOrder
from zojax.optimizers._shared import Sampling, Scheduled, descend, documented


@documented
def ars(
    learning_rate: Scheduled = 0.02,
    mu: Scheduled = 0.03,
    num_directions: int = 16,
    num_top: int | None = None,
    direction: Direction | None = None,
    **sampling: Unpack[Sampling],
) -> ZerothOrder:
    r"""Augmented random search: steps along the best directions, in units of the values' spread.

    .. math::
        x \leftarrow x - \frac{\alpha}{b\,\sigma} \sum_{k=1}^{b}
        (L(x + \mu z_k) - L(x - \mu z_k))\, z_k

    over the b directions with the lowest :math:`\min(L_+, L_-)`, where :math:`\sigma` is the standard
    deviation of their 2 b values. The paper maximises a reward, -L. It also divides observations by their
    running standard deviation, which is part of your policy (`zojax.rollouts`).

    Independent evidence: used for years on policies. In `python -m benchmarks methods`, with 8 directions,
    it ties with `mezo` on all five works.

    Args:
      learning_rate: alpha, a float or a schedule.
      mu: the paper's exploration noise nu, a float or a schedule. A step without a finite value advances
        the schedule of mu, but not the learning rate.
      num_directions: N; a step is 2 N evaluations.
      num_top: b; half of N by default, at least one.
      direction: `directions.normal()` by default.

    Raises:
      ValueError: more top directions than directions.

    References:
      Mania, Guy and Recht, `Simple random search provides a competitive approach to reinforcement
      learning <https://arxiv.org/abs/1803.07055>`_, 2018.

    >>> import jax.numpy as jnp, optax, zojax
    >>> tx = zojax.ars(learning_rate=0.1, num_directions=64)
    >>> params = jnp.ones(3)
    >>> updates, state = tx.update(None, tx.init(params), params, value_fn=lambda x: jnp.sum(x**2))
    >>> bool(jnp.all(updates < 0))
    True
    """
    require_rate("learning_rate", learning_rate)
    n = require_count("num_directions", num_directions)
    b = max(1, n // 2) if num_top is None else require_count("num_top", num_top)
    if b > n:
        raise ValueError(f"num_top must be at most num_directions = {n}, got {b}.")
    direction = directions.normal() if direction is None else direction

    def rate(step):
        """The estimate divides by 2 mu, the paper's sum does not."""
        alpha = learning_rate(step) if callable(learning_rate) else learning_rate
        return 2 * alpha * (mu(step) if callable(mu) else mu)

    choices = direction, None, shaping.top(b)
    return descend(rate, *choices, mu=mu, num_directions=n, **sampling)
