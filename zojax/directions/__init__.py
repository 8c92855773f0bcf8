"""Directions z: which way to step; E zz' = I over the perturbed coordinates, if nothing else is said.

A `Direction` is a tuple of pure functions. They make z from a key, so nothing is stored. `accumulate`
is the sum of a direction of your own. An `Adaptive` makes the `Direction` of each step from a memory.
"""

from zojax._direction import Adaptive, Direction, Outcome
from zojax.directions._combine import accumulate
from zojax.directions.cone import cone
from zojax.directions.coordinate import coordinate
from zojax.directions.curvature import curvature
from zojax.directions.guided import guided
from zojax.directions.hadamard import hadamard
from zojax.directions.input_span import input_span
from zojax.directions.layers import layers, layers_in_turn
from zojax.directions.low_rank import low_rank
from zojax.directions.masked import masked
from zojax.directions.normal import normal
from zojax.directions.orthogonal import orthogonal
from zojax.directions.rademacher import rademacher
from zojax.directions.separable import separable
from zojax.directions.small_weights import small_weights
from zojax.directions.sparse import sparse
from zojax.directions.sphere import sphere
from zojax.directions.subspace import newton_schulz, subspace

__all__ = [
    "Adaptive",
    "Direction",
    "Outcome",
    "accumulate",
    "cone",
    "coordinate",
    "curvature",
    "guided",
    "hadamard",
    "input_span",
    "layers",
    "layers_in_turn",
    "low_rank",
    "masked",
    "newton_schulz",
    "normal",
    "orthogonal",
    "rademacher",
    "separable",
    "small_weights",
    "sparse",
    "sphere",
    "subspace",
]
