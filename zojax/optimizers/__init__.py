"""Ready-made optimizers: each is one composition of an estimator and an optax chain."""

from zojax.optimizers.ars import ars
from zojax.optimizers.mezo import mezo
from zojax.optimizers.open_es import open_es
from zojax.optimizers.spsa import spsa
from zojax.optimizers.zo_sgd import zo_sgd

__all__ = ["ars", "mezo", "open_es", "spsa", "zo_sgd"]
