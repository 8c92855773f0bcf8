"""The table of directions: the known moments of each, on a quadratic of D coordinates.

For f = x'Hx/2 + b'x the central difference is exact, so one direction gives ghat = (g . z) z. Its mean is
g, and its covariance is known in closed form.
"""

from typing import NamedTuple

import numpy as np

from zojax import directions

D = 12


def _quadratic():
    rng = np.random.RandomState(0)
    a = rng.randn(D, D)
    return (a + a.T) / 2, rng.randn(D)


H, B = _quadratic()
X = np.linspace(-1, 1, D)
G = H @ X + B
NORM2 = float(G @ G)
OUTER, EYE = np.outer(G, G), np.eye(D)
T, FROBENIUS, DIAGONAL = np.trace(H), np.sum(H**2), np.sum(np.diag(H) ** 2)


class Law(NamedTuple):
    """One direction and its moments.

    Attributes:
      direction: with any settings.
      trace: of the covariance of one central difference.
      forward: E (z'Hz)^2 |z|^2; forward differences add (mu^2/4) times that to the trace. None if unknown.
      covariance: of one central difference; None if unknown.
      exact: the number of directions that gives the exact gradient, or None.
    """

    direction: directions.Direction
    trace: float
    forward: float | None = None
    covariance: np.ndarray | None = None
    exact: int | None = None


_SIGNS = {
    "trace": (D - 1) * NORM2,
    "forward": D * (T**2 + 2 * FROBENIUS - 2 * DIAGONAL),
    "covariance": NORM2 * EYE + OUTER - 2 * np.diag(G**2),
}
_SPHERE = {
    "trace": (D - 1) * NORM2,
    "forward": D**2 / (D + 2) * (T**2 + 2 * FROBENIUS),
}
LAWS = {
    "rademacher": Law(directions.rademacher(), **_SIGNS),
    "normal": Law(
        directions.normal(),
        trace=(D + 1) * NORM2,
        forward=(D + 4) * (T**2 + 2 * FROBENIUS),
        covariance=NORM2 * EYE + OUTER,
    ),
    "sphere": Law(
        directions.sphere(), **_SPHERE, covariance=D / (D + 2) * (NORM2 * EYE + 2 * OUTER) - OUTER
    ),
    "coordinate": Law(
        directions.coordinate(),
        trace=(D - 1) * NORM2,
        forward=D**2 * DIAGONAL,
        covariance=D * np.diag(G**2) - OUTER,
        exact=D,
    ),
    "orthogonal": Law(directions.orthogonal(), **_SPHERE, exact=D),
    "hadamard": Law(directions.hadamard(), **_SIGNS, exact=16),  # the padded d
    "sparse": Law(directions.sparse(0.5), trace=(D - 2 + 2) * NORM2),
    "low_rank": Law(directions.low_rank(), trace=(D - 1) * NORM2),
    "masked": Law(directions.masked(directions.rademacher(), lambda path, leaf: True), **_SIGNS),
}
