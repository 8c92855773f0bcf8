"""One method of the race: all learning rates and seeds side by side; one step is the whole race."""

import time

import numpy as np

from benchmarks import races
from benchmarks.contestants import once
from zojax.examples._methods import METHODS
from zojax.examples._race import RATES, race, state_per_parameter


def build(work):
    def run():
        at, start = races.WORKS[work.loss](), time.process_time()
        runs = race(at, METHODS[work.method], work.evaluations, points=work.points)
        best = runs.best()
        return {
            "loss": work.loss,
            "method": work.method,
            "rate": RATES[best],
            "by rate": np.mean(runs.validation[:, :, -1], axis=1).tolist(),
            "curve": runs.curve.tolist(),
            "test": runs.test[best].tolist(),
            "at": runs.evaluations.tolist(),
            "state": state_per_parameter(at, METHODS[work.method]),
            "cpu_seconds": time.process_time() - start,
        }

    return once(run)
