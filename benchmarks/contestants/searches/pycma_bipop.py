"""pycma with BIPOP restarts, sigma a quarter of the range, and its own ends of a run."""

import warnings

import cma
import numpy as np

from benchmarks.contestants.searches.pycma import options_of


def run(fun, box, budget, seed):
    rng, options = np.random.default_rng(seed), options_of(box, budget, seed)
    start = lambda: rng.uniform(box.lo, box.hi)  # noqa: E731
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return cma.fmin2(fun, start, 0.25, options, restarts=9, bipop=True)[0]
