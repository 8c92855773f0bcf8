"""zoopt: SRACOS as `Opt.min` runs it, handling of noise, and random embeddings."""

import contextlib
import io

import numpy as np
import zoopt
from zoopt.utils.zoo_global import gl


def run(fun, box, budget, seed, low=0, positive_size=0, reserve=0, **settings):
    """`settings` go to zoopt.Parameter.

    low: dimension of a sequential random embedding. reserve: evaluations beyond its budget that value
    suppression makes at the end.
    """
    gl.set_seed(seed + 1)  # its parameter ignores seed 0
    if low:
        inner = zoopt.Dimension(low, [[-1, 1]] * low, [True] * low)
        settings |= dict(high_dim_handling=True, reducedim=True, num_sre=5, low_dimension=inner)
    space = zoopt.Dimension(
        box.dim,
        [[a, b] if kind == "c" else [int(a), int(b)] for a, b, kind in zip(*box, strict=True)],
        [bool(kind == "c") for kind in box.kind],
        [bool(kind == "i") for kind in box.kind],
    )
    objective = zoopt.Objective(lambda solution: fun(solution.get_x()), space)
    parameter = zoopt.Parameter(budget=budget - reserve, **settings)
    if positive_size:
        parameter.set_positive_size(positive_size)
    with contextlib.redirect_stdout(io.StringIO()):
        solution = zoopt.Opt.min(objective, parameter)
    return np.asarray(solution.get_x(), float)
