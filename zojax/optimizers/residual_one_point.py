"""Residual feedback = normal x one_point_residual, then sgd."""

from typing import Unpack

from zojax import directions, stencils
from zojax._direction import Direction
from zojax._transform import ZerothOrder
from zojax.optimizers._shared import Sampling, Scheduled, descend, documented


@documented
def residual_one_point(
    learning_rate: Scheduled,
    mu: Scheduled = 1e-2,
    num_directions: int = 1,
    direction: Direction | None = None,
    **sampling: Unpack[Sampling],
) -> ZerothOrder:
    r"""One evaluation a step: the difference from the last step's value.

    .. math::
        x_{t+1} = x_t - \frac{\eta}{\mu}
        \left(L_t(x_t + \mu z_t) - L_{t-1}(x_{t-1} + \mu z_{t-1})\right) z_t

    For losses that can be asked once only, as online or on a moving system. With more directions the
    baseline is the mean of the last step's values. A step is N evaluations. The state is one scalar.

    Independent evidence: none. Two evaluations of the same data have far less variance: if you can ask
    twice, use `mezo`. In `python -m benchmarks methods` it is behind `mezo` on three works of five.

    Args:
      direction: `directions.normal()` by default, as in the paper.

    References:
      Zhang et al., `A new one-point residual-feedback oracle for black-box learning and control
      <https://arxiv.org/abs/2006.10820>`_, 2022.

    >>> tx = zojax.residual_one_point(1e-3, mu=0.1)
    """
    direction = directions.normal() if direction is None else direction
    choices = direction, stencils.one_point_residual()
    return descend(learning_rate, *choices, mu=mu, num_directions=num_directions, **sampling)
