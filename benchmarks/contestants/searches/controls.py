"""Controls in plain NumPy, which any method has to beat."""

import numpy as np


def run(fun, box, budget, seed, method):
    """random: uniform points. reset: (1+1) that draws one coordinate anew in every step."""
    rng = np.random.default_rng(seed)
    best = box.sample(rng)
    value = fun(best)
    for _ in range(budget - 1):
        x = box.sample(rng) if method == "random" else _reset(best, box, rng)
        if (v := fun(x)) <= value:
            best, value = x, v
    return best


def _reset(x, box, rng):
    x, k = x.copy(), rng.integers(len(x))
    if box.kind[k] == "c":
        x[k] = rng.uniform(box.lo[k], box.hi[k])
    else:
        x[k] = rng.integers(int(box.lo[k]), int(box.hi[k]) + 1)
    return x
