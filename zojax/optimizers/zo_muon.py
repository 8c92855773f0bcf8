"""ZO-Muon = matrices with one fixed orthonormal factor x forward, orthogonalised, then sgd."""

from typing import Unpack

from zojax import directions, stencils
from zojax._transform import ZerothOrder
from zojax.optimizers._shared import Sampling, Scheduled, descend, documented


@documented
def zo_muon(
    learning_rate: Scheduled = 1e-2,
    mu: Scheduled = 1e-3,
    num_directions: int = 4,
    rank: int = 64,
    refresh: int = 100,
    **sampling: Unpack[Sampling],
) -> ZerothOrder:
    r"""Muon in a random subspace: all singular values of an estimate become about 1.

    .. math::
        W \leftarrow W - \eta\, P\,\mathrm{NS}_5\left(\sum_i (L(W + \mu s P u_i) - L(W))\, u_i\right),
        \qquad s = \sqrt{m / r}

    P has r orthonormal columns, new every `refresh` steps; each u is an r x n normal matrix. The factor s
    makes mu the root mean square of a weight's change; the paper's mu is s times ours. Vectors take
    normal directions and the plain estimate. A step is N + 1 evaluations. The state is P, r m numbers for
    each m x n matrix, and a step holds the estimate if r is above 8.

    Independent evidence: none. Its own paper reports 24.7 % of MeZO's evaluations on SST-2. In
    `python -m benchmarks methods` it is behind `mezo` on one work of five.

    Args:
      learning_rate: eta, a float or a schedule. A step of a matrix has length about
        :math:`\eta \sqrt r`, whatever the loss.
      num_directions: N; the paper's q.
      rank: r.
      refresh: steps with the same P.

    References:
      Lang et al., `Powering up zeroth-order training via subspace gradient orthogonalization
      <https://arxiv.org/abs/2602.17155>`_, 2026.

    >>> tx = zojax.zo_muon(rank=2)
    """
    direction = directions.subspace(rank, "left", refresh, transform=directions.newton_schulz)
    choices = direction, stencils.forward()
    return descend(learning_rate, *choices, mu=mu, num_directions=num_directions, **sampling)
