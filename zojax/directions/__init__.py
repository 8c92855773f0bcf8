"""Directions z: which way to step. All have E zz' = I over the perturbed coordinates.

A `Direction` is a tuple of pure functions. They make z from a key, so nothing is stored. `accumulate`
is the sum of a direction of your own.
"""

from zojax._direction import Direction
from zojax.directions._combine import accumulate
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
    "accumulate",
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
