"""scipy's differential evolution, population 20 (100 points at d = 100 and above), without polishing."""

import numpy as np
from scipy.optimize import differential_evolution


def run(fun, box, budget, seed):
    size = min(box.dim, 100)
    rng = np.random.default_rng(seed)
    result = differential_evolution(
        fun,
        list(zip(box.lo, box.hi, strict=True)),
        init=rng.uniform(box.lo, box.hi, (size, box.dim)),
        maxiter=budget,  # generations: the meter ends the run
        tol=0,
        atol=0,
        polish=False,
        rng=rng,
        integrality=box.kind == "i",
    )
    return result.x
