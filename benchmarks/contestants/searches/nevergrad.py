"""nevergrad: any optimiser of its registry, on arrays, integers and unordered choices."""

import nevergrad as ng
import numpy as np


def run(fun, box, budget, seed, name, bounded=True):
    """Continuous coordinates are one array, integers another, categories of one size a third.

    Unbounded: the array starts at zero with a sigma of one, the defaults of nevergrad.
    """
    parts = {}
    c, i = box.kind == "c", box.kind == "i"
    if c.any():
        array = ng.p.Array(shape=(int(c.sum()),))
        parts["c"] = array.set_bounds(box.lo[c], box.hi[c]) if bounded else array
    if i.any():
        integers = ng.p.Array(shape=(int(i.sum()),)).set_bounds(box.lo[i], box.hi[i])
        parts["i"] = integers.set_integer_casting()
    sizes = {int(hi) + 1: (box.kind == "k") & (box.hi == hi) for hi in box.hi[box.kind == "k"]}
    for size, mask in sizes.items():
        parts[f"k{size}"] = ng.p.Choice(range(size), repetitions=int(mask.sum()))

    masks = {"c": c, "i": i} | {f"k{size}": mask for size, mask in sizes.items()}

    def flat(values):
        x = np.zeros(box.dim)
        for name in values:
            x[masks[name]] = values[name]
        return x

    space = ng.p.Dict(**parts)
    space.random_state.seed(seed)
    optimizer = ng.optimizers.registry[name](parametrization=space, budget=budget)
    for _ in range(budget):
        candidate = optimizer.ask()
        optimizer.tell(candidate, fun(flat(candidate.value)))
    return flat(optimizer.provide_recommendation().value)
