"""ZO-AdaMM = any estimator, then AMSGrad without bias corrections."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from zojax._checks import require_rate
from zojax._estimator import Estimator
from zojax._transform import ZerothOrder, zeroth_order
from zojax._trees import PyTree
from zojax.optimizers._shared import Scheduled, documented


class _Moments(NamedTuple):
    """First moment, second moment, and its maximum so far."""

    first: PyTree
    second: PyTree
    largest: PyTree


@documented
def zo_adamm(
    learning_rate: Scheduled,
    estimator: Estimator | None = None,
    b1: float = 0.9,
    b2: float = 0.3,
    eps: float = 1e-8,
    key: int | jax.Array = 0,
) -> ZerothOrder:
    r"""Adam whose second moment never decreases.

    .. math::
        m \leftarrow \beta_1 m + (1 - \beta_1) \hat g, \quad
        v \leftarrow \beta_2 v + (1 - \beta_2) \hat g^2,
        \quad \hat v \leftarrow \max(\hat v, v), \quad
        x \leftarrow x - \eta\,\frac{m}{\sqrt{\hat v} + \epsilon}

    As in the paper there are no bias corrections. A step is the evaluations of the estimator. The state is
    3 copies of the parameters. For constrained problems project after each step.

    Independent evidence: none for training. The paper compares it on attacks. In
    `python -m benchmarks methods` it is ahead of `mezo` on one work of five and behind on none.

    Args:
      b1: decay of the first moment.
      b2: decay of the second moment.
      eps: added to the root.

    References:
      Chen et al., `ZO-AdaMM: zeroth-order adaptive momentum method for black-box optimization
      <https://arxiv.org/abs/1910.06513>`_, 2019.

    >>> tx = zojax.zo_adamm(0.1, zojax.estimator(num_directions=4))
    """
    require_rate("learning_rate", learning_rate)

    def init(params):
        return _Moments(*(optax.tree.zeros_like(params) for _ in range(3)))

    def update(grads, state, params=None):
        del params
        first = optax.tree.update_moment(grads, state.first, b1, 1)
        second = optax.tree.update_moment(grads, state.second, b2, 2)
        largest = jax.tree.map(jnp.maximum, state.largest, second)
        steps = jax.tree.map(lambda m, v: m / (jnp.sqrt(v) + eps), first, largest)
        return steps, _Moments(first, second, largest)

    scale = optax.GradientTransformation(init, update)
    inner = optax.chain(scale, optax.scale_by_learning_rate(learning_rate))
    return zeroth_order(inner, estimator, key)
