"""zojax: vectorized zeroth-order gradient estimators for JAX, gradients from function values alone."""

from zojax import (
    attacks,
    directions,
    implicit,
    noise,
    optimizers,
    search,
    shaping,
    stencils,
    trajectory,
)
from zojax._estimator import Asked, Estimate, Estimator, EstimatorState, estimator
from zojax._gradient import grad, value_and_grad
from zojax._minimize import MinimizeResult, minimize
from zojax._transform import ZerothOrder, ZerothOrderState, apply_updates, zeroth_order
from zojax.directions import Direction
from zojax.optimizers import ars, mezo, open_es, spsa, zo_sgd
from zojax.shaping import Shaping
from zojax.stencils import Stencil

__version__ = "0.1.0"

__all__ = [
    "Asked",
    "Direction",
    "Estimate",
    "Estimator",
    "EstimatorState",
    "MinimizeResult",
    "Shaping",
    "Stencil",
    "ZerothOrder",
    "ZerothOrderState",
    "apply_updates",
    "ars",
    "attacks",
    "directions",
    "estimator",
    "grad",
    "implicit",
    "mezo",
    "minimize",
    "noise",
    "open_es",
    "optimizers",
    "search",
    "shaping",
    "spsa",
    "stencils",
    "trajectory",
    "value_and_grad",
    "zeroth_order",
    "zo_sgd",
]
