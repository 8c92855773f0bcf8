"""Directions z: which way to step. All have E zz' = I over the perturbed coordinates.

A direction is a `Direction`: pure functions that make it from a key, so that nothing of it is stored.
"""

from zojax._direction import Direction
from zojax.directions.coordinate import coordinate
from zojax.directions.hadamard import hadamard
from zojax.directions.low_rank import low_rank
from zojax.directions.masked import masked
from zojax.directions.normal import normal
from zojax.directions.orthogonal import orthogonal
from zojax.directions.rademacher import rademacher
from zojax.directions.sparse import sparse
from zojax.directions.sphere import sphere

__all__ = [
    "Direction",
    "coordinate",
    "hadamard",
    "low_rank",
    "masked",
    "normal",
    "orthogonal",
    "rademacher",
    "sparse",
    "sphere",
]
