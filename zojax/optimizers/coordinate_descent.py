"""Coordinate descent = coordinate x forward (or central), then sgd on the sum."""

import dataclasses
from typing import Unpack

import jax
import numpy as np
import optax

from zojax import directions, stencils
from zojax._checks import require_count, require_rate
from zojax._direction import Direction
from zojax._transform import ZerothOrder
from zojax._trees import total_size
from zojax.optimizers._shared import Sampling, Scheduled, documented, on_estimates
from zojax.stencils import Stencil


@documented
def coordinate_descent(
    learning_rate: Scheduled,
    mu: Scheduled = 5e-3,
    num_coordinates: int = 1,
    stencil: Stencil | None = None,
    **sampling: Unpack[Sampling],
) -> ZerothOrder:
    r"""Finite differences of a few random coordinates, which alone are moved.

    .. math::
        x \leftarrow x - \eta \sum_{i \in S} \frac{L(x + \mu e_i) - L(x)}{\mu}\, e_i

    Each step draws another set S of coordinates, all different. With d coordinates it is the
    finite-difference gradient. Unlike elsewhere in zojax, mu is how far one coordinate moves, and the sum
    is not scaled by d / |S|. A step is \|S\| + 1 evaluations, keeps no state, and holds the estimate.

    Independent evidence: none for large models. A full sweep costs d evaluations: use it below a few
    thousand coordinates, or on a part (`partition` by closure, as in DeepZero). In
    `python -m benchmarks methods`, with 2,000 evaluations, it is behind `mezo` on four works of five.

    Args:
      mu: radius of one coordinate, a float or a schedule.
      num_coordinates: \|S\|, at most d.
      stencil: `stencils.forward()` by default, as in the paper; `stencils.central()` takes 2 \|S\|.

    References:
      Chen et al., `DeepZero: scaling up zeroth-order optimization for deep model training
      <https://arxiv.org/abs/2310.02025>`_, 2024 (its coordinate-wise estimator).

    >>> tx = zojax.coordinate_descent(0.1, num_coordinates=2)
    """
    require_rate("learning_rate", learning_rate)
    n = require_count("num_coordinates", num_coordinates)
    stencil = stencils.forward() if stencil is None else stencil
    choices = _unit(directions.coordinate()), stencil
    # The estimate is a mean over the coordinates, the formula a sum.
    inner = optax.chain(optax.scale(n), optax.sgd(learning_rate))
    return on_estimates(inner, *choices, mu=mu, num_directions=n, **sampling)


def _unit(direction: Direction) -> Direction:
    """The coordinates without their factor sqrt(d)."""

    def draw(frame, index, like):
        scale = np.float32(1 / np.sqrt(total_size(like)))
        drawn = direction.draw(frame, index, like)
        return jax.tree.map(lambda _, z: dataclasses.replace(z, scale=scale * z.scale), like, drawn)

    def combine(frame, coefficients, like):
        return direction.combine(frame, coefficients / np.float32(np.sqrt(total_size(like))), like)

    return direction._replace(draw=draw, combine=combine)
