"""A cheap search in a new interpreter: imports, compilation and run together are one step."""

import os
import subprocess
import sys
import tempfile

from benchmarks.contestants import Host

ACKLEY = """
    a = -20 * np.exp(-0.2 * np.sqrt(np.mean(z * z))) - np.exp(np.mean(np.cos(2 * np.pi * z)))
    return a + 20 + np.e
"""
ZOJAX = """
from zojax import search
import {module} as np
def f(x):
    z = x - 0.2{ackley}
search.minimize(f, search.uniform(-1, 1, (20,)), search.{algorithm}(), budget={budget}, key=0)
"""
ZOOPT = """
import numpy as np
from zoopt import Dimension, Objective, Opt, Parameter
def f(solution):
    z = np.array(solution.get_x()) - 0.2{ackley}
Opt.min(Objective(f, Dimension(20, [[-1, 1]] * 20, [True] * 20)), Parameter(budget={budget}))
"""
IMPORTS = {"import jax": "import jax", "import zojax": "import zojax.search"}


def build(work, name):
    """`name` is an import, or a library, and for zojax algorithm, module of the function and cache."""
    if name in IMPORTS:
        return Host(lambda: _run(IMPORTS[name], None))
    if name.startswith("zoopt"):
        code, cache = ZOOPT.format(ackley=ACKLEY, budget=work.budget), None
    else:
        algorithm, module, cached = name.removeprefix("zojax ").split(", ")
        algorithm = {"default": "portfolio"}.get(algorithm, algorithm)
        code = ZOJAX.format(module=module, ackley=ACKLEY, algorithm=algorithm, budget=work.budget)
        cache = tempfile.mkdtemp() if cached == "persistent cache" else None
    return Host(lambda: _run(code, cache))  # the first step fills the cache, and does not count


def _run(code: str, cache: str | None) -> None:
    variables = os.environ | {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    variables |= {"JAX_ENABLE_COMPILATION_CACHE": "true"}
    variables.pop("JAX_COMPILATION_CACHE_DIR", None)
    if cache:
        variables["JAX_COMPILATION_CACHE_DIR"] = cache
    command = [sys.executable, "-W", "ignore", "-c", code]
    subprocess.run(command, env=variables, check=True, stdout=subprocess.DEVNULL)
