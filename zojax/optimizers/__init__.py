"""Ready-made optimizers: each is one composition of an estimator and an optax chain."""

import typing as _typing

from zojax.optimizers.ars import ars as ars
from zojax.optimizers.mezo import mezo as mezo
from zojax.optimizers.open_es import open_es as open_es
from zojax.optimizers.spsa import spsa as spsa
from zojax.optimizers.zo_sgd import zo_sgd as zo_sgd

if not _typing.TYPE_CHECKING:  # type checkers read the aliases
    __all__ = [name for name in dir() if not name.startswith("_")]
