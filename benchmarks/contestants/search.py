"""Searches of other libraries and controls: a step is one run from the next seed.

Beside gradient estimators a step is a run of as many evaluations, on float64 vectors and without bounds
where the library can do without.
"""

import importlib
from collections.abc import Callable
from functools import partial

import jax
import numpy as np

from benchmarks import problems
from benchmarks.contestants import Host
from benchmarks.contestants.searches import Played, play
from benchmarks.works import Work

UNBOUNDED = ("nevergrad", "pycma")


def build(work, of, **settings):
    module = importlib.import_module(f"benchmarks.contestants.searches.{of}")
    if isinstance(work, Work):
        settings |= {"bounded": False} if of in UNBOUNDED else {}
        return _beside_estimators(work, partial(module.run, **settings))
    return seeds(work, on_host(work, partial(module.run, **settings)))


def on_host(work, run: Callable) -> Callable[[int], Played]:
    """A search of `searches` on the work's function, by its seed."""
    return lambda seed: play(run, work.objective(seed), work.box, work.budget, seed)


def seeds(work, run: Callable[[int], Played]) -> Host:
    """One run a step. Its value is `work.final`; `work.facts` makes columns of all runs."""
    played, values = [], []

    def step():
        seed = len(values)
        played.append(run(seed))
        values.append(float(work.final(seed, played[-1])))

    return Host(step, work.budget, lambda: {"values": values} | work.facts(played))


def _beside_estimators(work: Work, run: Callable) -> Host:
    if not isinstance(work.params, jax.ShapeDtypeStruct):
        raise ValueError("it searches vectors; this work has a tree of parameters.")
    loss, box = jax.jit(lambda x: work.loss(x, {})), problems.box(-1, 1, work.params.size)

    def value(x):
        return float(loss(np.asarray(x, np.float32)))

    return Host(lambda: play(run, value, box, work.evaluations, 0))
