"""One method of the race: all learning rates and seeds side by side; one step is the whole race."""

import time

import numpy as np

from benchmarks import races
from benchmarks.contestants import once
from zojax.examples._methods import METHODS
from zojax.examples._race import RATES, Runs, Work, race, state_per_parameter


def build(work):
    def run():
        at, start = races.WORKS[work.loss](), time.process_time()
        runs = race(at, METHODS[work.method], work.evaluations, points=work.points)
        best = runs.best()
        found = {"loss": work.loss, "rate": RATES[best], "test": runs.test[best].tolist()}
        found["by rate"] = np.mean(runs.validation[:, :, -1], axis=1).tolist()
        return found | shared(work.method, at, runs, start)

    return once(run)


def shared(method: str, at: Work, runs: Runs, start: float) -> dict:
    """Facts of every race, begun at `start` by the clock of the process."""
    return {
        "method": method,
        "curve": runs.curve.tolist(),
        "at": runs.evaluations.tolist(),
        "state": state_per_parameter(at, METHODS[method]),
        "cpu_seconds": time.process_time() - start,
    }
