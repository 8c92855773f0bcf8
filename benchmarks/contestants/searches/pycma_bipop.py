"""pycma with BIPOP restarts, sigma a quarter of the range, integers, and its own ends of a run."""

import cma
import numpy as np

from benchmarks.contestants.searches.pycma import options_of


def run(fun, box, budget, seed):
    rng, options = np.random.default_rng(seed), options_of(box, budget, seed)
    start, whole = lambda: rng.uniform(box.lo, box.hi), box.kind != "c"
    options |= {"integer_variables": list(np.flatnonzero(whole))}

    def value(x):
        return fun(np.where(whole, np.clip(np.round(x), box.lo, box.hi), x))

    return cma.fmin2(value, start, 0.25, options, restarts=9, bipop=True)[0]
