r"""Where to evaluate: stencils are plain data, offsets o and weights w.

The coefficient of direction z is :math:`c = \sum_j w_j f(x + \mu o_j z) / \mu`. A stencil with
:math:`\sum_j w_j o_j = 1` and :math:`\sum_j w_j = 0` is a finite difference; any other one is written the
same way, e.g. `Stencil(offsets=(1, -1, 2, -2), weights=(2/3, -2/3, -1/12, 1/12))`, of fourth order.
"""

import math
from typing import NamedTuple

import jax
import numpy as np

__all__ = ["Stencil", "central", "forward", "one_point", "one_point_residual"]

_REAL = int, float, np.integer, np.floating


class Stencil(NamedTuple):
    """Offsets along z in units of mu, the weight of each value, the weight of the last step's mean.

    Attributes:
      offsets: o_j. Directions with the same data share one evaluation at offset 0.
      weights: w_j.
      memory: the weight of the mean value of the previous step (`one_point_residual`).
    """

    offsets: tuple[float, ...]
    weights: tuple[float, ...]
    memory: float = 0.0


def central() -> Stencil:
    r""":math:`(f(x + \mu z) - f(x - \mu z)) / 2\mu`: two evaluations a direction, bias O(mu^2).

    >>> central()
    Stencil(offsets=(1.0, -1.0), weights=(0.5, -0.5), memory=0.0)
    """
    return Stencil(offsets=(1.0, -1.0), weights=(0.5, -0.5))


def forward() -> Stencil:
    r""":math:`(f(x + \mu z) - f(x)) / \mu`: one evaluation a direction and one more, bias O(mu).

    >>> forward()
    Stencil(offsets=(1.0, 0.0), weights=(1.0, -1.0), memory=0.0)
    """
    return Stencil(offsets=(1.0, 0.0), weights=(1.0, -1.0))


def one_point() -> Stencil:
    r""":math:`f(x + \mu z) / \mu`: one evaluation a direction; its variance grows with f^2 / mu^2.

    Use a baseline (`shaping.baseline`) or `one_point_residual` to lower it.

    >>> one_point()
    Stencil(offsets=(1.0,), weights=(1.0,), memory=0.0)
    """
    return Stencil(offsets=(1.0,), weights=(1.0,))


def one_point_residual() -> Stencil:
    r""":math:`(f_t(x_t + \mu z_t) - f_{t-1}(x_{t-1} + \mu z_{t-1})) / \mu`: the last value as baseline.

    The baseline is the mean over the directions of the previous step. The first step uses its own mean, so
    with one direction it does not move. It needs a state: use `zeroth_order` or
    `Estimator.estimate(..., state=...)`, not `value_and_grad`.

    References:
      Zhang et al., `A new one-point residual-feedback oracle for black-box learning and control
      <https://arxiv.org/abs/2006.10820>`_, 2022.

    >>> one_point_residual().memory
    -1.0
    """
    return Stencil(offsets=(1.0,), weights=(1.0,), memory=-1.0)


def validated(stencil: Stencil) -> Stencil:
    """The stencil in Python floats; raises unless they are finite, not empty, and form pairs."""
    if not all(isinstance(part, (tuple, list)) for part in stencil[:2]):
        raise TypeError(f"stencil offsets and weights must be tuples of floats, got {stencil}.")
    for number in (*stencil.offsets, *stencil.weights, stencil.memory):
        if not _is_number(number) or not math.isfinite(number):
            raise ValueError(f"stencil must have finite numbers, got {number!r} in {stencil}.")
    if not stencil.offsets or len(stencil.offsets) != len(stencil.weights):
        raise ValueError(
            f"stencil needs one weight per offset and at least one of each, got {stencil}."
        )
    offsets, weights = (tuple(map(float, part)) for part in stencil[:2])
    if not any(offsets):
        raise ValueError(f"stencil must have an offset other than 0, got {stencil}.")
    if len(set(offsets)) != len(offsets):
        raise ValueError(f"stencil offsets must differ from one another, got {stencil}.")
    return Stencil(offsets, weights, float(stencil.memory))


def _is_number(x) -> bool:
    is_scalar = isinstance(x, jax.Array) and not isinstance(x, jax.core.Tracer) and x.ndim == 0
    return isinstance(x, _REAL) or is_scalar and x.dtype.kind in "iuf"
