"""Searches behind one function: `run(fun, box, budget, seed) -> x`; one file a library.

`fun` takes a NumPy vector and returns a float. It is a `Meter`: it counts calls, remembers values, and
raises `Exhausted` beyond the budget. `x` is the recommended point.
"""

import warnings
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from benchmarks.problems import Box


class Exhausted(Exception):
    """The budget is spent."""


class Meter:
    """Counts calls of `fun`; keeps all values and the best point."""

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


class Played(NamedTuple):
    """Best value after every evaluation, and the recommended point."""

    best: np.ndarray
    x: np.ndarray


def play(run: Callable, fun: Callable, box: Box, budget: int, seed: int) -> Played:
    """One run, without warnings; if it stops early, its best value stands for the rest of the budget."""
    meter = Meter(fun, budget)
    try:
        with warnings.catch_warnings(action="ignore"):
            x = run(meter, box, budget, seed)
    except Exhausted:
        x = meter.best
    values = np.full(budget, np.inf)
    values[: len(meter.values)] = meter.values
    return Played(np.minimum.accumulate(values), np.asarray(x, float))
