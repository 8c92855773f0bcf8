"""zojax: vectorized zeroth-order gradient estimators for JAX, gradients from function values alone."""

import functools
import importlib
import sys
from typing import TYPE_CHECKING

# The public names. Type checkers read this block; `__getattr__` imports a name when it is first used: a
# search needs no estimators and no optax, which take as long as all else.
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
    from zojax._estimator import Asked as Asked
    from zojax._estimator import Estimate as Estimate
    from zojax._estimator import Estimator as Estimator
    from zojax._estimator import EstimatorState as EstimatorState
    from zojax._estimator import estimator as estimator
    from zojax._gradient import grad as grad
    from zojax._gradient import value_and_grad as value_and_grad
    from zojax._minimize import MinimizeResult as MinimizeResult
    from zojax._minimize import Progress as Progress
    from zojax._minimize import minimize as minimize
    from zojax._transform import Metrics as Metrics
    from zojax._transform import Scalars as Scalars
    from zojax._transform import ZerothOrder as ZerothOrder
    from zojax._transform import ZerothOrderState as ZerothOrderState
    from zojax._transform import apply_updates as apply_updates
    from zojax._transform import with_metrics as with_metrics
    from zojax._transform import zeroth_order as zeroth_order
    from zojax._verdict import verdict as verdict
    from zojax.directions import Direction as Direction
    from zojax.optimizers.agzo import agzo as agzo
    from zojax.optimizers.ars import ars as ars
    from zojax.optimizers.block_coordinate import block_coordinate as block_coordinate
    from zojax.optimizers.compensated_rounding import compensated_rounding as compensated_rounding
    from zojax.optimizers.conmezo import conmezo as conmezo
    from zojax.optimizers.coordinate_descent import coordinate_descent as coordinate_descent
    from zojax.optimizers.eggroll import eggroll as eggroll
    from zojax.optimizers.forward_gradient import forward_gradient as forward_gradient
    from zojax.optimizers.fzoo import fzoo as fzoo
    from zojax.optimizers.guided_es import guided_es as guided_es
    from zojax.optimizers.hizoo import hizoo as hizoo
    from zojax.optimizers.lezo import lezo as lezo
    from zojax.optimizers.lozo import lozo as lozo
    from zojax.optimizers.lozo import lozo_m as lozo_m
    from zojax.optimizers.meazo import meazo as meazo
    from zojax.optimizers.mezo import mezo as mezo
    from zojax.optimizers.open_es import open_es as open_es
    from zojax.optimizers.qes import qes as qes
    from zojax.optimizers.qzo import qzo as qzo
    from zojax.optimizers.residual_one_point import residual_one_point as residual_one_point
    from zojax.optimizers.snes import snes as snes
    from zojax.optimizers.sparse_mezo import sparse_mezo as sparse_mezo
    from zojax.optimizers.spsa import spsa as spsa
    from zojax.optimizers.stochastic_rounding import stochastic_rounding as stochastic_rounding
    from zojax.optimizers.subzero import subzero as subzero
    from zojax.optimizers.zo_adam import zo_adam as zo_adam
    from zojax.optimizers.zo_adamm import zo_adamm as zo_adamm
    from zojax.optimizers.zo_momentum import zo_momentum as zo_momentum
    from zojax.optimizers.zo_muon import zo_muon as zo_muon
    from zojax.optimizers.zo_sam import zo_sam as zo_sam
    from zojax.optimizers.zo_sgd import zo_sgd as zo_sgd
    from zojax.optimizers.zo_sign_sgd import zo_sign_sgd as zo_sign_sgd
    from zojax.shaping import Shaping as Shaping
    from zojax.stencils import Stencil as Stencil

__version__ = "0.1.0"


if not TYPE_CHECKING:  # or else checkers would accept any name

    def __getattr__(name: str):
        if name == "__all__":
            return sorted(_homes())
        if name.startswith("_"):
            raise AttributeError(f"module 'zojax' has no attribute {name!r}")
        home = _homes().get(name, "zojax")
        try:
            found = importlib.import_module(f"zojax.{name}" if home == "zojax" else home)
        except ModuleNotFoundError as error:
            if error.name != f"zojax.{name}":  # a dependency of the module is missing
                raise
            raise AttributeError(f"module 'zojax' has no attribute {name!r}") from None
        globals()[name] = value = found if home == "zojax" else getattr(found, name)
        return value


@functools.cache
def _homes() -> dict[str, str]:
    """The module of each public name, from the block of imports above."""
    import ast
    import inspect

    body = ast.parse(inspect.getsource(sys.modules[__name__])).body
    block = next(node for node in body if isinstance(node, ast.If))
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    return {alias.name: str(node.module) for node in imports for alias in node.names}


def __dir__():
    return sorted({*globals(), *_homes()})
