"""pycma with BIPOP restarts, sigma a quarter of the range, and its own ends of a run."""

import warnings

import cma
import numpy as np


def run(fun, box, budget, seed):
    rng = np.random.default_rng(seed)

    def start():
        return rng.uniform(box.lo, box.hi)

    options = {
        "bounds": [list(box.lo), list(box.hi)],
        "maxfevals": budget,
        "seed": seed + 1,
        "verbose": -9,
        "CMA_stds": box.hi - box.lo,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return cma.fmin2(fun, start, 0.25, options, restarts=9, bipop=True)[0]
