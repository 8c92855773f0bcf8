"""nevergrad: any optimiser of its registry, on arrays, integers and unordered choices."""

import warnings

import nevergrad as ng
import numpy as np


def run(fun, box, budget, seed, name):
    """Continuous coordinates are one bounded array, integers another, each category a choice of its own."""
    parts, place = {}, np.arange(box.dim)
    c, i = box.kind == "c", box.kind == "i"
    if c.any():
        parts["c"] = ng.p.Array(shape=(int(c.sum()),)).set_bounds(box.lo[c], box.hi[c])
    if i.any():
        integers = ng.p.Array(shape=(int(i.sum()),)).set_bounds(box.lo[i], box.hi[i])
        parts["i"] = integers.set_integer_casting()
    for k in place[box.kind == "k"]:
        parts[f"k{k}"] = ng.p.Choice(range(int(box.hi[k]) + 1))

    def flat(values):
        x = np.zeros(box.dim)
        for mask, key in ((c, "c"), (i, "i")):
            if key in values:
                x[mask] = values[key]
        for k in place[box.kind == "k"]:
            x[k] = values[f"k{k}"]
        return x

    space = ng.p.Dict(**parts)
    space.random_state.seed(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        optimizer = ng.optimizers.registry[name](parametrization=space, budget=budget)
        for _ in range(budget):
            candidate = optimizer.ask()
            optimizer.tell(candidate, fun(flat(candidate.value)))
        return flat(optimizer.provide_recommendation().value)
