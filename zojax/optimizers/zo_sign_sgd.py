"""ZO-signSGD = any estimator, then the sign of each entry."""

import jax
import optax

from zojax._checks import require_rate
from zojax._estimator import Estimator
from zojax._transform import ZerothOrder, zeroth_order
from zojax.optimizers._shared import Scheduled, documented


@documented
def zo_sign_sgd(
    learning_rate: Scheduled,
    estimator: Estimator | None = None,
    key: int | jax.Array = 0,
) -> ZerothOrder:
    r"""Steps of equal length in every coordinate, :math:`x \leftarrow x - \eta\,\mathrm{sign}(\hat g)`.

    With one direction of signs this is :math:`\mathrm{sign}(c)\,z`: more directions say more. A step is the
    evaluations of the estimator. There is no state beyond it.

    Independent evidence: none beyond attacks, where signs help under an L-infinity bound. In
    `python -m benchmarks methods` it is behind `mezo` on one work of five.

    References:
      Liu, Chen, Chen and Hong, `signSGD via zeroth-order oracle
      <https://openreview.net/forum?id=BJe-DsC5Fm>`_, 2019.

    >>> tx = zojax.zo_sign_sgd(0.1, zojax.estimator(num_directions=4))
    """
    require_rate("learning_rate", learning_rate)
    return zeroth_order(optax.sign_sgd(learning_rate), estimator, key)
