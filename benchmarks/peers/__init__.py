"""Other people's optimisers behind one function: `run(fun, box, budget, seed) -> x`.

`fun` takes a NumPy vector and returns a float. It is a `Meter`, which counts and remembers; it raises
`Exhausted` rather than be called once too often, so no peer exceeds a budget, whatever it thinks of it.
A peer returns the point it recommends. One file a peer; `PEERS` names them.
"""

import importlib
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from benchmarks.problems import Box, Problem


class Exhausted(Exception):
    """The budget is spent."""


class Meter:
    """Counts calls of `fun` and keeps the value of each and the best point."""

    def __init__(self, fun: Callable, budget: int):
        self.fun, self.values, self.budget = fun, [], budget
        self.best, self.best_value = None, np.inf

    def __call__(self, x) -> float:
        if len(self.values) >= self.budget:
            raise Exhausted
        x = np.asarray(x, float)
        value = self.fun(x)
        self.values.append(value)
        if value < self.best_value:
            self.best, self.best_value = x.copy(), value
        return value


class Run(NamedTuple):
    """Best so far after every evaluation, the point recommended at the end, and seconds."""

    best: np.ndarray
    x: np.ndarray
    seconds: float


def play(run: Callable, fun: Callable, space: Box, budget: int, seed: int) -> Run:
    """One run of a peer; if it stops early its best value stands for the rest of the budget."""
    meter = Meter(fun, budget)
    start = time.perf_counter()
    try:
        x = run(meter, space, budget, seed)
    except Exhausted:
        x = meter.best
    seconds = time.perf_counter() - start
    values = np.full(budget, np.inf)
    values[: len(meter.values)] = meter.values
    return Run(np.minimum.accumulate(values), np.asarray(x, float), seconds)


class Peer(NamedTuple):
    """Where a peer lives and what it can do.

    Attributes:
      module: of `benchmarks.peers`.
      settings: keyword arguments of its `run`.
      kinds: kinds of coordinates it takes.
      max_dim: above it is not run: out of reach by time or memory.
    """

    module: str
    settings: dict = {}
    kinds: str = "c"
    max_dim: int = 10_000

    def run(self, fun, space: Box, budget: int, seed: int) -> np.ndarray:
        module = importlib.import_module(f"benchmarks.peers.{self.module}")
        return module.run(fun, space, budget, seed, **self.settings)

    def takes(self, problem: Problem) -> bool:
        return set(problem.box.kind) <= set(self.kinds) and problem.box.dim <= self.max_dim


PEERS = {
    "zoopt": Peer("zoopt", kinds="cik"),
    "coordinate reset": Peer("controls", {"method": "reset"}, kinds="cik"),
    "random search": Peer("controls", {"method": "random"}, kinds="cik"),
    "pycma": Peer("pycma"),
    "nevergrad OnePlusOne": Peer("nevergrad", {"name": "OnePlusOne"}, kinds="cik"),
    "nevergrad CMA": Peer("nevergrad", {"name": "CMA"}, kinds="cik"),
    "evosax SNES": Peer("evosax", {"name": "SNES"}, max_dim=1000),
    "evosax CMA_ES": Peer("evosax", {"name": "CMA_ES"}, max_dim=100),
    "scipy DE": Peer("scipy", kinds="ci", max_dim=1000),
}
