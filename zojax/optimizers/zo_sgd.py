"""ZO-SGD = any estimator, then sgd with optional momentum."""

import jax
import optax

from zojax._checks import require_flag, require_rate
from zojax._estimator import Estimator
from zojax._transform import ZerothOrder, zeroth_order
from zojax.optimizers._shared import Scheduled, documented


@documented
def zo_sgd(
    learning_rate: Scheduled,
    estimator: Estimator | None = None,
    momentum: float | None = None,
    nesterov: bool = False,
    key: int | jax.Array = 0,
) -> ZerothOrder:
    r"""Stochastic gradient descent on an estimated gradient, :math:`x \leftarrow x - \eta \hat g`.

    A step is the evaluations of the estimator. Momentum keeps a copy of the parameters; there is no other
    state.

    Independent evidence: tuned, it is level with adaptive methods on language models
    (`2605.03869 <https://arxiv.org/abs/2605.03869>`_). In `python -m benchmarks methods` momentum ties
    with `mezo`, which has none, on all five works.

    Args:
      nesterov: whether momentum is Nesterov's.

    References:
      Ghadimi and Lan, `Stochastic first- and zeroth-order methods for nonconvex stochastic programming
      <https://arxiv.org/abs/1309.5549>`_, 2013.

    >>> tx = zojax.zo_sgd(0.1, zojax.estimator(num_directions=4), momentum=0.9)
    """
    require_rate("learning_rate", learning_rate)
    require_flag("nesterov", nesterov)
    if momentum is not None:
        require_rate("momentum", momentum)
    return zeroth_order(optax.sgd(learning_rate, momentum, nesterov), estimator, key)
