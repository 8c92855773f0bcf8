"""Searches of a Python function, in processor time: an evaluation, a first search, many small searches.

The function is Rosenbrock's in NumPy. All is beside pycma, which has bounds as well. The other libraries
run as in `searches`.
"""

import importlib
import os
import subprocess
import sys
import tempfile
import time
import warnings
from functools import partial

import numpy as np

from benchmarks.contestants import Host
from benchmarks.problems import box

BUDGETS, SPACES = (50, 100, 101, 200, 400), 20
FIRST = """
import time
{imports}
begin = time.process_time()
from benchmarks.contestants.host_search import METHODS
METHODS[{method!r}](10, {budget}, 0)
print(time.process_time() - begin)
"""


def valley(x) -> float:
    x = np.asarray(x)
    return float((100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum())


def _zojax(fun, name, dim, budget, seed):
    from zojax import search

    made = None if name == "default" else getattr(search, name)()
    options = {"budget": budget, "key": seed, "jit": False}
    return search.minimize(fun, search.uniform(-5, 5 + seed, (dim,)), made, **options)


def _other(library, dim, budget, seed):
    run = importlib.import_module(f"benchmarks.contestants.searches.{library}").run
    with warnings.catch_warnings(action="ignore"):
        run(valley, box(-5, 5 + seed, dim), budget, seed)


METHODS = {
    "default": lambda *of: _zojax(valley, "default", *of),
    "cma_es": lambda *of: _zojax(valley, "cma_es", *of),
    "sracos": lambda *of: _zojax(valley, "sracos", *of),
    "nsga2": lambda *of: _zojax(lambda x: (valley(x), float((x**2).sum())), "nsga2", *of),
    "turbo": lambda *of: _zojax(valley, "turbo", *of),
    "pycma": partial(_other, "pycma"),
    "Optuna TPE": partial(_other, "optuna"),
}


def build(work, method):
    if work.what == "evaluation":
        run = METHODS[method]
        return Host(
            lambda: run(work.dim, work.budget, 0), amount=work.budget, clock=time.process_time
        )
    return _processes(work, method) if work.what == "process" else _sweep(method)


def _processes(work, method):
    """Searches in new processes; the first one fills the cache, if there is one."""
    folder, spent = tempfile.TemporaryDirectory(), 0.0
    # Modules are compiled once, as they are by pip.
    variables = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": f"{folder.name}/modules"}
    variables["JAX_ENABLE_COMPILATION_CACHE"] = str(work.cache).lower()  # workers have none
    variables["JAX_COMPILATION_CACHE_DIR"] = f"{folder.name}/programs"
    variables["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    ours = method not in ("pycma", "Optuna TPE")
    code = FIRST.format(imports="import jax" * ours, method=method, budget=work.budget)

    def run():
        nonlocal spent
        command = [sys.executable, "-W", "ignore", "-c", code]
        spent += float(subprocess.check_output(command, env=os.environ | variables, text=True))

    return Host(run, clock=lambda: spent)


def _sweep(method):
    """A search for each space and budget, and what XLA compiled meanwhile."""
    from jax import monitoring

    compiled = []

    def count(event: str, *_, **__) -> None:
        if event.endswith("backend_compile_duration"):
            compiled.append(event)

    monitoring.register_event_duration_secs_listener(count)

    def run():
        for seed in range(SPACES):
            for budget in BUDGETS:
                METHODS[method](2 + seed % 5, budget, seed)

    amount = SPACES * len(BUDGETS)
    return Host(run, amount, lambda: {"compiled": len(compiled)}, time.process_time)
