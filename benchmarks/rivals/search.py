"""Searches of host libraries, as `benchmarks.peers` runs them: a step is a run of as many evaluations.

They know no gradient estimate and hold points as float64 vectors; the loss is the compiled one. The works
have no bounds, and a search has none either where it can do without: to keep them is work.
"""

import jax
import numpy as np

from benchmarks import problems
from benchmarks.peers import PEERS, play
from benchmarks.rivals import Host


def build(work, name, **settings):
    if not isinstance(work.params, jax.ShapeDtypeStruct):
        raise ValueError("it searches vectors; this work has a tree of parameters.")
    loss, box = jax.jit(lambda x: work.loss(x, {})), problems.box(-1, 1, work.params.size)

    def value(x):
        return float(loss(np.asarray(x, np.float32)))

    peer = PEERS[name]._replace(settings=PEERS[name].settings | settings)
    return Host(lambda: play(peer.run, value, box, work.evaluations, 0))
