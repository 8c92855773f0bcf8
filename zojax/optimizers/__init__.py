"""Ready-made optimizers: each is one composition of an estimator and an optax chain."""

import typing as _typing

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

if not _typing.TYPE_CHECKING:  # type checkers read the aliases
    __all__ = [name for name in dir() if not name.startswith("_")]
