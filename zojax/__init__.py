"""zojax: vectorized zeroth-order gradient estimators for JAX, gradients from function values alone."""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
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
    from zojax._ask_tell import Asked
    from zojax._estimate import Estimate, EstimatorState
    from zojax._estimator import Estimator, estimator
    from zojax._gradient import grad, value_and_grad
    from zojax._minimize import MinimizeResult, Progress, minimize
    from zojax._transform import ZerothOrder, ZerothOrderState, apply_updates, zeroth_order
    from zojax._verdict import verdict
    from zojax.directions import Direction
    from zojax.optimizers.ars import ars
    from zojax.optimizers.mezo import mezo
    from zojax.optimizers.open_es import open_es
    from zojax.optimizers.spsa import spsa
    from zojax.optimizers.zo_sgd import zo_sgd
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
    "Progress",
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
    "verdict",
    "zeroth_order",
    "zo_sgd",
]

# Imported when first used: a search needs no estimators and no optax, which take as long as all else.
_HOMES = {
    "zojax._ask_tell": ("Asked",),
    "zojax._estimate": ("Estimate", "EstimatorState"),
    "zojax._estimator": ("Estimator", "estimator"),
    "zojax._gradient": ("grad", "value_and_grad"),
    "zojax._minimize": ("MinimizeResult", "Progress", "minimize"),
    "zojax._transform": ("ZerothOrder", "ZerothOrderState", "apply_updates", "zeroth_order"),
    "zojax._verdict": ("verdict",),
    "zojax.directions": ("Direction",),
    "zojax.optimizers": ("ars", "mezo", "open_es", "spsa", "zo_sgd"),
    "zojax.shaping": ("Shaping",),
    "zojax.stencils": ("Stencil",),
}
_SUBPACKAGES = {
    *("attacks", "directions", "execution", "implicit", "lm", "noise", "optimizers", "rollouts"),
    *("search", "shaping", "stencils", "trajectory"),
}


def __getattr__(name: str):
    if name in _SUBPACKAGES:
        return importlib.import_module(f"zojax.{name}")
    for module, names in _HOMES.items():
        if name in names:
            globals()[name] = value = getattr(importlib.import_module(module), name)
            return value
    raise AttributeError(f"module 'zojax' has no attribute {name!r}")


def __dir__():
    return sorted({*globals(), *__all__})
