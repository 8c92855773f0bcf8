"""Guided ES = guided normals x central, then sgd."""

from typing import Unpack

from zojax import directions
from zojax._transform import ZerothOrder
from zojax.optimizers._shared import Sampling, Scheduled, descend, documented


@documented
def guided_es(
    learning_rate: Scheduled,
    mu: Scheduled = 1e-2,
    num_directions: int = 1,
    history: int = 10,
    alpha: float = 0.5,
    momentum: float | None = None,
    **sampling: Unpack[Sampling],
) -> ZerothOrder:
    r"""Half of each direction lies in the span of the last estimates.

    .. math::
        z_i = \sqrt\alpha\, \epsilon_i + \sqrt{(1 - \alpha) d / k}\; U \epsilon_i', \qquad
        x \leftarrow x - \frac{\eta}{N} \sum_i c_i z_i

    with U an orthonormal basis of the last k estimates. The paper guides by gradients of a surrogate;
    here the past estimates are the surrogate. Its standard deviation is :math:`\mu \sqrt d`. A step is 2
    N evaluations. The state is k copies of the parameters, and a step holds k + 1 more.

    Independent evidence: helpful with a real surrogate. Past estimates of a noisy gradient say little in
    high dimension: their span holds a share of about k N / d of it. In `python -m benchmarks methods` it
    ties with `mezo` on all five works.

    Args:
      history: k.
      alpha: share of the full space; the paper's 0.5.
      momentum: decay of `optax.trace`; None keeps no more state.

    References:
      Maheswaranathan et al., `Guided evolutionary strategies <https://arxiv.org/abs/1806.10230>`_, 2019.

    >>> tx = zojax.guided_es(0.1, history=2)
    """
    options = dict(mu=mu, num_directions=num_directions, momentum=momentum)
    return descend(learning_rate, directions.guided(history, alpha), **options, **sampling)
