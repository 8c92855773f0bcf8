"""SubZero = matrices between two fixed orthonormal bases x central, then sgd."""

from typing import Unpack

from zojax import directions
from zojax._transform import ZerothOrder
from zojax.optimizers._shared import Sampling, Scheduled, descend, documented


@documented
def subzero(
    learning_rate: Scheduled = 1e-6,
    mu: Scheduled = 1e-3,
    num_directions: int = 1,
    rank: int = 24,
    refresh: int = 1000,
    **sampling: Unpack[Sampling],
) -> ZerothOrder:
    r"""Random subspaces that stay for many steps.

    .. math::
        Z = \frac{\sqrt{mn}}{r}\, U Z_0 V^\top, \qquad X \leftarrow X - \eta\, c Z

    U and V are orthonormal, new every `refresh` steps; Z_0 is an r x r normal matrix, new in each step.
    Vectors take normal directions. A step is 2 N evaluations. The state is r (m + n) numbers for each m x
    n matrix, and a step holds the estimate if r is above 8.

    Independent evidence: none. Over its life a subspace holds a share r^2 / (mn) of the gradient. The scale
    makes up for it in the mean. In `python -m benchmarks methods` it is behind `mezo` on one work of five.

    Args:
      rank: r; the paper's 24 to 48.
      refresh: steps in one subspace; the paper's 500 to 2,000.

    References:
      Yu et al., `Zeroth-order fine-tuning of LLMs in random subspaces
      <https://arxiv.org/abs/2410.08989>`_, 2024.

    >>> tx = zojax.subzero(learning_rate=0.01, rank=2)
    """
    direction = directions.subspace(rank, "both", refresh)
    return descend(learning_rate, direction, mu=mu, num_directions=num_directions, **sampling)
