"""A step of a model in one of the precisions, by a ready-made optimizer."""

import zojax
from benchmarks.contestants import ours

METHODS = {
    "mezo": zojax.mezo,
    "mezo, stochastic rounding": lambda: zojax.stochastic_rounding(zojax.mezo()),
    "mezo, compensated rounding": lambda: zojax.compensated_rounding(zojax.mezo()),
    "qzo, stochastic rounding": lambda: zojax.stochastic_rounding(zojax.qzo()),
    "qes": lambda: zojax.qes(population=2, horizon=2),
}


def build(work, method: str):
    return ours.program(work, METHODS[method]())
