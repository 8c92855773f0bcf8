"""pycma: sigma a quarter of the range, a uniform start, diagonal above 200 dimensions."""

import cma
import numpy as np

# It runs until the budget is spent: no restarts, and no early end on small differences.
NO_ENDS = {"tolfun": 0, "tolfunhist": 0, "tolx": 0, "tolflatfitness": np.inf}
NO_ENDS |= {"tolstagnation": np.inf}


def options_of(box, budget, seed, bounded=True) -> dict:
    bounds = [list(box.lo), list(box.hi)] if bounded else [None, None]
    options = {"bounds": bounds, "CMA_stds": box.hi - box.lo}
    return options | {"maxfevals": budget, "seed": seed + 1, "verbose": -9}


def run(fun, box, budget, seed, bounded=True):
    """Unbounded: the box is only where it starts."""
    start = np.random.default_rng(seed).uniform(box.lo, box.hi)
    options = options_of(box, budget, seed, bounded) | NO_ENDS | {"CMA_diagonal": box.dim > 200}
    es = cma.CMAEvolutionStrategy(start, 0.25, options)
    while es.countevals < budget:
        points = es.ask()
        es.tell(points, [fun(x) for x in points])
    return es.result.xfavorite
