"""The table of directions: the known moments of each, on a quadratic of D coordinates.

For f = x'Hx/2 + b'x the central difference is exact, so one direction gives ghat = (g . z) z. Its mean is
g, and its covariance is known in closed form.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from zojax import directions

PyTree = Any

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
_SPHERE = {"trace": (D - 1) * NORM2, "forward": D**2 / (D + 2) * (T**2 + 2 * FROBENIUS)}
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
    "layers": Law(
        directions.layers(
            0.5, lambda path, leaf: np.arange(leaf.shape[0]) % 4 if leaf.shape else 0
        ),
        trace=(D - 1) * NORM2,
    ),
    "sparse": Law(directions.sparse(0.5), trace=(D - 2 + 2) * NORM2),
    "low_rank": Law(directions.low_rank(), trace=(D - 1) * NORM2),
    "masked": Law(directions.masked(directions.rademacher(), lambda path, leaf: True), **_SIGNS),
}


INPUTS = np.random.RandomState(1).randn(6, 4).astype(np.float32)


def read(w):
    """A loss that multiplies a matrix of four rows with inputs."""
    return jnp.mean(jnp.tanh(jnp.asarray(INPUTS, w.dtype) @ w))


class AdaptiveLaw(NamedTuple):
    """One adaptive direction, and the covariance E zz' that its memory gives.

    Attributes:
      adaptive: with any settings.
      covariance: `covariance(memory, params)`, in NumPy, over the coordinates of a matrix.
      num_directions: of a step.
    """

    adaptive: directions.Adaptive
    covariance: Callable[[PyTree, np.ndarray], np.ndarray]
    num_directions: int = 3


def _cone(memory, w):
    m = np.ravel(memory) / np.linalg.norm(memory)
    return np.cos(1.2) ** 2 * m.size * np.outer(m, m) + np.sin(1.2) ** 2 * np.eye(m.size)


def _guided(memory, w):
    span = np.linalg.svd(np.reshape(memory, (2, -1)), full_matrices=False)[2]
    return 0.5 * np.eye(w.size) + 0.5 * w.size / 2 * span.T @ span


def _first_of_layers(memory, w):
    return np.diag(np.repeat(np.arange(len(w)) == int(memory) % len(w), w.shape[1]).astype(float))


def _subspace(memory, w):
    a, b = memory.left.T, memory.right.T  # both orthonormal, of rank 2
    return w.size / 4 * np.kron(a @ a.T, b @ b.T)


def _input_span(memory, w):
    a = memory.left.T
    return np.kron(a @ a.T, np.eye(w.shape[1]))


ADAPTIVE = {
    "cone": AdaptiveLaw(directions.cone(1.2, 0.5), _cone),
    "curvature": AdaptiveLaw(
        directions.curvature(0.2, 0.5),
        lambda memory, w: np.diag(1 / np.maximum(np.abs(memory), 0.5).ravel()),
        num_directions=4,
    ),
    "guided": AdaptiveLaw(directions.guided(2), _guided),
    "input_span": AdaptiveLaw(directions.input_span(2, refresh=2), _input_span),
    "layers_in_turn": AdaptiveLaw(
        directions.layers_in_turn(lambda path, leaf: np.arange(leaf.shape[0])), _first_of_layers
    ),
    "separable": AdaptiveLaw(
        directions.separable(), lambda memory, w: np.diag(np.exp(2 * memory).ravel())
    ),
    "small_weights": AdaptiveLaw(
        directions.small_weights(0.5),
        lambda memory, w: np.diag((np.abs(w) <= memory.of).ravel().astype(float)),
    ),
    "subspace": AdaptiveLaw(directions.subspace(2, refresh=2), _subspace),
    "subspace, left": AdaptiveLaw(
        directions.subspace(2, "left", refresh=2),
        lambda memory, w: len(w) / 2 * np.kron(memory.left.T @ memory.left, np.eye(w.shape[1])),
    ),
    "subspace, right and normal": AdaptiveLaw(
        directions.subspace(2, "right", 2, "normal"),
        lambda memory, w: np.kron(np.eye(len(w)), memory.right.T @ memory.right) / 2,
    ),
}
