"""Hyper-parameters of a small network as a search work, at one budget of trainings.

All searches get the same trainings with a fresh seed each, the same bounds and scales. The five best
candidates of a run are trained four times more, and the best mean is chosen: part of the budget. The value
of a run is the loss of the chosen candidate over 32 further seeds, the same for all, on validation rows.
"""

import statistics
from functools import cached_property

import jax
import numpy as np

from benchmarks.problems import Box
from zojax import search
from zojax.examples import _candidates, _trainings, tuning

FINALISTS, SEEDS = 5, 4
SPACE = search.space(_trainings.SPACE)
KINDS = dict(zip((search.CONTINUOUS, search.ORDERED, search.UNORDERED), "cik", strict=True))


class Trainings:
    """The objective of one run: every call is a training with a fresh seed; it remembers all of them."""

    def __init__(self, fun, seed: int):
        self.fun, self.key = fun, jax.random.key(seed + 1000)
        self.points, self.values = [], []

    def __call__(self, x) -> float:
        """The value of an encoded point; inf if the training failed."""
        point = _candidates.numbers(SPACE.point(np.asarray(x, np.float32)[None]))
        point = jax.tree.map(lambda leaf: jax.numpy.asarray(leaf[0]), point)
        value = float(self.fun(point, jax.random.fold_in(self.key, len(self.values))))
        value = value if np.isfinite(value) else np.inf
        self.points.append(point)
        self.values.append(value)
        return value


class Tuning:
    """One of the data sets of `zojax.examples.tuning`; `trainings` are the budget of a run."""

    def __init__(self, data: str, trainings: int = 100, steps: int = 300):
        self.data, self.trainings, self.steps = data, trainings, steps
        self.runs: list[dict] = []

    @cached_property
    def fun(self):
        return jax.jit(tuning.make_losses(self.data, self.steps)[1])

    @property
    def budget(self) -> int:
        return self.trainings - FINALISTS * SEEDS

    @property
    def box(self) -> Box:
        kinds = np.array([KINDS[kind] for kind in SPACE.kinds])
        return Box(np.asarray(SPACE.low, float), np.asarray(SPACE.high, float), kinds)

    def objective(self, seed: int) -> Trainings:
        self.train = Trainings(self.fun, seed)
        return self.train

    def final(self, seed: int, played) -> float:
        del played
        point = self._chosen(jax.random.fold_in(jax.random.key(seed), 2))
        losses = tuning.judge(self.data, self.steps, point, jax.random.key(3))
        ran = np.isfinite(losses.validation)
        self.runs.append(
            {
                "test": float(np.mean(losses.test[ran])),
                "failed": int(np.sum(~np.isfinite(self.train.values))),
                "diverged": int(np.sum(~ran)),
            }
        )
        return float(np.mean(losses.validation[ran]))

    def _chosen(self, key):
        """The best mean of the finalists."""
        order = np.argsort(self.train.values, kind="stable")
        ordered = [self.train.points[i] for i in order]
        points = jax.tree.map(lambda *leaves: np.stack(leaves), *ordered)
        return tuning.choose(self.fun, _candidates.different(points, FINALISTS), SEEDS, key)[0]

    def facts(self, played: list) -> dict:
        tests, runs = [run["test"] for run in self.runs], len(self.runs)
        return {
            "trainings": self.trainings,
            "test": statistics.mean(tests),
            "test sd": statistics.stdev(tests) if runs > 1 else 0.0,
            "failed, of all": sum(r["failed"] for r in self.runs) / (runs * self.trainings),
            "chosen that diverged, of all": sum(r["diverged"] for r in self.runs)
            / (runs * tuning.JUDGED),
        }
