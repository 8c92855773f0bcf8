"""Evaluations a second beside zoopt, in one interleaved run; compilation, and a whole cheap run, apart."""

import itertools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial

import jax.numpy as jnp
import numpy as np

from benchmarks import problems
from benchmarks.measure import interleaved, markdown, ratio
from benchmarks.peers import PEERS, play
from zojax import search
from zojax.examples.subset import make_loss

SEARCHES = {
    "sracos(parity=True)": search.sracos(parity=True),
    "sracos": search.sracos(),
    "default": search.portfolio(),
}


def _ours(fun, space, algorithm, budget, runs, jit=None):
    """A search as a user calls it; the function is one object, so that later calls are compiled already."""
    return lambda: (
        search.minimize(
            fun, space, algorithm, budget=budget, key=0, repeats=runs, jit=jit
        ).run_values
    )


def _zoopt(problem, budget):
    return lambda: play(PEERS["zoopt"].run, problem.host(0), problem.box, budget, 0).best


def _ackley(dim, budget, runs, slice_):
    """SRACOS on Ackley: (name, evaluations a call, call); zoopt runs a slice of the budget."""
    problem = problems.continuous("ackley", dim)
    fun = lambda x: problems.ackley(x - 0.2, jnp)  # noqa: E731
    space = search.uniform(-1, 1, (dim,))
    calls = {"zoopt": (slice_, _zoopt(problem, slice_))}
    for r in runs:
        each = budget if r == 1 else 2000
        for name, algorithm in SEARCHES.items():
            if r > 1 and name == "default":
                continue  # side by side it computes every branch: minutes
            call = _ours(fun, space, algorithm, each, r)
            calls[f"zojax {name}, {r} run{'s' * (r > 1)}"] = (r * each, call)
    for name, algorithm in SEARCHES.items():  # of the same NumPy function as zoopt
        call = _ours(problem.host(0), space, algorithm, slice_, 1, jit=False)
        calls[f"zojax {name}, NumPy function"] = (slice_, call)
    return calls


def _poss(quick):
    from benchmarks.peers import zoopt

    task = problems.Regression(*problems.sonar(), 8)
    loss, budget, runs = make_loss(task.columns, task.target, 16), task.budget, 16
    space, slice_ = search.subset(60, max_size=8), 2000
    call = _ours(loss, space, search.poss(), 2000 if quick else budget, runs)
    return {
        "zoopt": (slice_, lambda: zoopt.subset(task.host, 60, 8, slice_, 0)),
        "zojax poss, 16 runs": (runs * (2000 if quick else budget), call),
    }


FRESH = """
from zojax import search
import {numpy} as np
def f(x):
    z = x - 0.2
    a = -20 * np.exp(-0.2 * np.sqrt(np.mean(z * z))) - np.exp(np.mean(np.cos(2 * np.pi * z)))
    return a + 20 + np.e
print(search.minimize(f, search.uniform(-1, 1, (20,)), {algorithm}, budget=2000, key=0).best_value)
"""
FRESH_ZOOPT = """
import numpy as np
from zoopt import Dimension, Objective, Opt, Parameter
def f(solution):
    z = np.array(solution.get_x()) - 0.2
    a = -20 * np.exp(-0.2 * np.sqrt(np.mean(z * z))) - np.exp(np.mean(np.cos(2 * np.pi * z)))
    return a + 20 + np.e
Opt.min(Objective(f, Dimension(20, [[-1, 1]] * 20, [True] * 20)), Parameter(budget=2000))
"""


def _process(code, cache):
    environment = os.environ | {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)
    if cache:
        environment["JAX_COMPILATION_CACHE_DIR"] = cache
    start = time.perf_counter()
    command = [sys.executable, "-W", "ignore", "-c", code]
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def fresh(arguments) -> list[dict]:
    """A cheap run (Ackley-20, 2,000 evaluations) in a new process: imports, compilation, run."""
    found, rounds = {}, 1 if arguments.quick else 3
    with tempfile.TemporaryDirectory() as cache:
        codes = {
            "zoopt": (FRESH_ZOOPT, None),
            "import jax": ("import jax", None),
            "import zojax": ("import zojax.search", None),
        }
        for name, module in itertools.product(("sracos", "portfolio"), ("jax.numpy", "numpy")):
            code = FRESH.replace("{algorithm}", f"search.{name}()").replace("{numpy}", module)
            codes[f"zojax {name}, {module}, no cache"] = (code, None)
            codes[f"zojax {name}, {module}, persistent cache"] = (code, cache)
            _process(code, cache)  # fills the cache
        for _ in range(rounds):
            for name, (code, where) in codes.items():
                found.setdefault(name, []).append(_process(code, where))
    rows = [
        {"work": "fresh process", "contestant": name, "seconds": statistics.median(taken)}
        for name, taken in found.items()
    ]
    print("\n" + markdown(rows), flush=True)
    return rows


def rows(arguments) -> list[dict]:
    """Evaluations a second, the ratio to zoopt's with quartiles, and seconds of the first call."""
    runs, rounds = ((1, 8), 3) if arguments.quick else ((1, 256), 3)
    works = {
        "SRACOS, Ackley-100": partial(
            _ackley, 100, 2000 if arguments.quick else 10_000, runs, 1000
        ),
        "SRACOS, Ackley-1000": partial(
            _ackley, 1000, 2000 if arguments.quick else 20_000, (1,), 2000
        ),
        "POSS, sonar k=8": partial(_poss, arguments.quick),
    }
    found = []
    for work, make in works.items():
        calls, first = make(), {}
        for name, (_, call) in calls.items():
            start = time.perf_counter()
            call()
            first[name] = time.perf_counter() - start
        seconds = interleaved({name: call for name, (_, call) in calls.items()}, rounds)
        per = {name: np.array(taken) / calls[name][0] for name, taken in seconds.items()}
        for name, each in per.items():
            middle, low, high = ratio(per["zoopt"].tolist(), each.tolist())
            found.append(
                {
                    "work": work,
                    "contestant": name,
                    "evaluations / s": float(1 / np.median(each)),
                    "/ zoopt": middle,
                    "quartiles": f"{low:.3g} to {high:.3g}",
                    "s, first call": first[name],
                    "s, later calls": float(np.median(seconds[name])),
                }
            )
        print("\n" + markdown(found[-len(calls) :]), flush=True)
    return found
