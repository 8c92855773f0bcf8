"""Sparse-MeZO = the small weights x central, then sgd."""

from typing import Unpack

from zojax import directions
from zojax._checks import require_fraction
from zojax._direction import Direction
from zojax._transform import ZerothOrder
from zojax.optimizers._shared import Sampling, Scheduled, descend, documented


@documented
def sparse_mezo(
    learning_rate: Scheduled = 1e-6,
    mu: Scheduled = 1e-3,
    num_directions: int = 1,
    sparsity: float = 0.8,
    direction: Direction | None = None,
    **sampling: Unpack[Sampling],
) -> ZerothOrder:
    r"""MeZO on the weights of small magnitude.

    .. math::
        z = m \odot s, \quad m = [\,|w| \le t\,], \qquad x \leftarrow x - \eta\, c z

    The thresholds t leave a share `sparsity` of each leaf as it is; they come from the first parameters.
    The mask is that of the weights now: one that outgrows its threshold stops. So it is a method for
    trained weights. A step is 2 N evaluations. The state is one number a leaf.

    Independent evidence: none. Any fixed part of the weights gives a step less variance and a smaller
    gradient. In `python -m benchmarks methods`, from random weights, it is behind `mezo` on all five works.

    Args:
      sparsity: share of weights that do not move, in [0, 1).
      direction: of s; `directions.rademacher()` by default, the paper's is normal.

    References:
      Liu et al., `Sparse MeZO: less parameters for better performance in zeroth-order LLM fine-tuning
      <https://arxiv.org/abs/2402.15751>`_, 2024.

    >>> tx = zojax.sparse_mezo(learning_rate=0.1, sparsity=0.5)
    """
    small = directions.small_weights(require_fraction("1 - sparsity", 1 - sparsity), direction)
    return descend(learning_rate, small, mu=mu, num_directions=num_directions, **sampling)
