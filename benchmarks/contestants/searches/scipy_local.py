"""scipy's local searches from uniform starts, restarted until the budget is spent."""

import numpy as np
from scipy.optimize import minimize


def run(fun, box, budget, seed, method):
    """`method` is "L-BFGS-B", whose differences count as evaluations, or "COBYQA"."""
    rng, bounds = np.random.default_rng(seed), list(zip(box.lo, box.hi, strict=True))
    while True:  # the meter ends the run
        minimize(fun, rng.uniform(box.lo, box.hi), method=method, bounds=bounds)
