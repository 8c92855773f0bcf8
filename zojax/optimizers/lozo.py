"""LOZO = matrices with one fixed factor x central, then sgd."""

import math
from typing import Unpack

from zojax import directions
from zojax._transform import ZerothOrder
from zojax.optimizers._shared import Sampling, Scheduled, descend, documented


@documented
def lozo(
    learning_rate: Scheduled = 1e-6,
    mu: Scheduled = 1e-3,
    num_directions: int = 1,
    rank: int = 2,
    refresh: int = 50,
    momentum: float | None = None,
    **sampling: Unpack[Sampling],
) -> ZerothOrder:
    r"""Low-rank directions that share a factor for some steps.

    .. math::
        c = \frac{L(X + \mu U V^\top) - L(X - \mu U V^\top)}{2\mu}, \qquad
        X \leftarrow X - \eta\, c\, U V^\top / r

    U is new in each step, V every `refresh` steps; both are normal. Vectors take normal directions. The
    formula is the paper's; its code leaves out 1 / r. A step is 2 N evaluations. The state is V, r n
    numbers for each m x n matrix.

    Independent evidence: none. Random low rank does not lower the variance of a step. It saves noise and
    shares products. In `python -m benchmarks methods` it ties with `mezo` on all five works.

    Args:
      rank: r; the paper's 1 to 8.
      refresh: steps with the same V; the paper's 50 to 100.
      momentum: of U, see `lozo_m`.

    References:
      Chen et al., `Enhancing zeroth-order fine-tuning for language models with low-rank structures
      <https://arxiv.org/abs/2410.07698>`_, 2024.

    >>> tx = zojax.lozo(learning_rate=0.01)
    """
    direction = directions.subspace(rank, "right", refresh, "normal", momentum)

    # The direction is U V' / sqrt(r), the paper's step U V'.
    radius = (lambda step: math.sqrt(rank) * mu(step)) if callable(mu) else math.sqrt(rank) * mu

    return descend(learning_rate, direction, mu=radius, num_directions=num_directions, **sampling)


@documented
def lozo_m(
    learning_rate: Scheduled = 1e-6,
    mu: Scheduled = 1e-3,
    num_directions: int = 1,
    rank: int = 2,
    refresh: int = 50,
    momentum: float = 0.9,
    **sampling: Unpack[Sampling],
) -> ZerothOrder:
    r"""`lozo` with momentum of the factor U, which is small.

    .. math::
        N \leftarrow \beta N + (1 - \beta)\, c\, U, \qquad X \leftarrow X - \eta\, N V^\top / r

    With a new V the momentum is projected, :math:`N V^\top V_{new} / n`. Vectors have no momentum. A step
    is 2 N evaluations. The state is r (m + n) numbers for each m x n matrix.

    Independent evidence: none. In `python -m benchmarks methods` it is behind `mezo` on one work of five.

    Args:
      rank: r.
      refresh: steps with the same V.
      momentum: beta.

    References:
      Chen et al., `Enhancing zeroth-order fine-tuning for language models with low-rank structures
      <https://arxiv.org/abs/2410.07698>`_, 2024.

    >>> tx = zojax.lozo_m(learning_rate=0.01)
    """
    return lozo(learning_rate, mu, num_directions, rank, refresh, momentum, **sampling)
