"""Searches of host libraries, as `benchmarks.peers` runs them: a step is a run of as many evaluations.

They know no gradient estimate and hold points as float64 vectors; the loss is the compiled one.
"""

import jax
import numpy as np

from benchmarks import problems
from benchmarks.peers import PEERS, play
from benchmarks.rivals import Host


def build(work, name):
    if not isinstance(work.params, jax.ShapeDtypeStruct):
        raise ValueError("it searches vectors; this work has a tree of parameters.")
    loss, box = jax.jit(lambda x: work.loss(x, {})), problems.box(-1, 1, work.params.size)

    def value(x):
        return float(loss(np.asarray(x, np.float32)))

    return Host(lambda: play(PEERS[name].run, value, box, work.evaluations, 0))
