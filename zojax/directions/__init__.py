"""Directions z: which way to step; E zz' = I over the perturbed coordinates, if nothing else is said.

A `Direction` is a tuple of pure functions. They make z from a key, so nothing is stored. `accumulate`
is the sum of a direction of your own. An `Adaptive` makes the `Direction` of each step from a memory.
"""

from zojax._direction import Adaptive as Adaptive
from zojax._direction import Direction as Direction
from zojax._direction import Outcome as Outcome
from zojax.directions._combine import accumulate as accumulate
from zojax.directions.cone import cone as cone
from zojax.directions.coordinate import coordinate as coordinate
from zojax.directions.curvature import curvature as curvature
from zojax.directions.guided import guided as guided
from zojax.directions.hadamard import hadamard as hadamard
from zojax.directions.input_span import input_span as input_span
from zojax.directions.layers import layers as layers
from zojax.directions.layers import layers_in_turn as layers_in_turn
from zojax.directions.low_rank import low_rank as low_rank
from zojax.directions.masked import masked as masked
from zojax.directions.normal import normal as normal
from zojax.directions.orthogonal import orthogonal as orthogonal
from zojax.directions.rademacher import rademacher as rademacher
from zojax.directions.separable import separable as separable
from zojax.directions.small_weights import small_weights as small_weights
from zojax.directions.sparse import sparse as sparse
from zojax.directions.sphere import sphere as sphere
from zojax.directions.subspace import newton_schulz as newton_schulz
from zojax.directions.subspace import subspace as subspace

__all__ = [name for name in dir() if not name.startswith("_")]
