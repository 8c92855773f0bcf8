"""pycma: sigma a quarter of the range, a uniform start, diagonal above 200 dimensions."""

import warnings

import cma
import numpy as np


def run(fun, box, budget, seed, bounded=True):
    """Unbounded: the box is only where it starts."""
    rng = np.random.default_rng(seed)
    options = {
        "bounds": [list(box.lo), list(box.hi)] if bounded else [None, None],
        "maxfevals": budget,
        "seed": seed + 1,
        "verbose": -9,
        "CMA_stds": box.hi - box.lo,
        "CMA_diagonal": box.dim > 200,
        # It runs until the budget is spent: no restarts, and no early end on small differences.
        "tolfun": 0,
        "tolfunhist": 0,
        "tolx": 0,
        "tolflatfitness": np.inf,
        "tolstagnation": np.inf,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        es = cma.CMAEvolutionStrategy(rng.uniform(box.lo, box.hi), 0.25, options)
        while es.countevals < budget:
            points = es.ask()
            es.tell(points, [fun(x) for x in points])
    return es.result.xfavorite
