"""zojax: vectorized zeroth-order gradient estimators for JAX, gradients from function values alone."""

import importlib
import pkgutil
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from zojax import attacks as attacks
    from zojax import diagnostics as diagnostics
    from zojax import directions as directions
    from zojax import executors as executors
    from zojax import implicit as implicit
    from zojax import lm as lm
    from zojax import logging as logging
    from zojax import noise as noise
    from zojax import optimizers as optimizers
    from zojax import processes as processes
    from zojax import rollouts as rollouts
    from zojax import search as search
    from zojax import shaping as shaping
    from zojax import stencils as stencils
    from zojax import trajectory as trajectory
    from zojax._public import *  # noqa: F403
else:
    # Modules and names are imported when they are first used: a search needs no estimators and no optax,
    # which take as long as all else.

    def __getattr__(name: str):
        if name == "__all__":
            return _names()
        if name in _modules():
            return importlib.import_module(f"zojax.{name}")
        if not name.startswith("_"):
            public = vars(importlib.import_module("zojax._public"))
            if name in public:
                globals()[name] = public[name]
                return public[name]
        raise AttributeError(f"module 'zojax' has no attribute {name!r}")

    def __dir__():
        return sorted({*globals(), *_names()})

    def _names() -> list[str]:
        from zojax._public import __all__

        return sorted({*_modules(), *__all__} - {"examples", "execution"})

    def _modules() -> set[str]:
        found = {module.name for module in pkgutil.iter_modules(__path__)}  # noqa: F405
        return {name for name in found if not name.startswith("_")}
