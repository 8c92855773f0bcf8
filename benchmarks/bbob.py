"""The 24 BBOB functions (bbobax) as one work, and the targets of a run.

The score of a run after t evaluations is how many of 51 targets, 10^2 .. 10^-8 above the optimum, it has
reached. float32 does not resolve the last targets, so values are in float64.
"""

from functools import cache, partial
from typing import NamedTuple

import bbobax
import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.problems import Box, box

TARGETS = 10.0 ** np.linspace(2, -8, 51)
CHECKPOINTS = np.union1d(np.round(np.geomspace(1, 1000, 31), 2), 20)  # evaluations / dimension
FUNCTIONS = tuple(bbobax.BBOB_PROBLEMS)


@cache
def function(name: str, dim: int):
    return bbobax.BBOB_PROBLEMS[name](num_dims=dim)


def instance(name: str, dim: int, number: int):
    """The parameters of one instance, f_opt = 0."""
    key = jax.random.fold_in(jax.random.key(number), FUNCTIONS.index(name))
    return function(name, dim).sample(key)


def value(name: str, dim: int, x, params):
    """Traceable; needs 64 bits to resolve the last targets."""
    return function(name, dim).evaluate(jax.random.key(0), x, params).fitness


def solved(best: np.ndarray, dim: int) -> np.ndarray:
    """How many targets were reached at each checkpoint, from best-so-far values."""
    at = np.clip(np.floor(CHECKPOINTS * dim).astype(int), 1, len(best)) - 1
    return (best[at][:, None] <= TARGETS).sum(1)


@cache
def _compiled(name, dim):
    return jax.jit(partial(value, name, dim))


class Bbob(NamedTuple):
    """All 24 functions of a dimension: seed s is function s mod 24, instance s // 24.

    A run has `times * dim` evaluations; a search may choose by its budget.
    """

    dim: int
    times: int = 1000

    @property
    def box(self) -> Box:
        return box(-5, 5, self.dim)

    @property
    def budget(self) -> int:
        return self.times * self.dim

    def objective(self, seed: int):
        number, which = divmod(seed, len(FUNCTIONS))
        with jax.enable_x64(True):
            given = instance(FUNCTIONS[which], self.dim, number)

        def fun(x):
            with jax.enable_x64(True):
                return float(_compiled(FUNCTIONS[which], self.dim)(jnp.asarray(x), given))

        return fun

    def final(self, seed: int, played) -> float:
        """The share of targets reached with the whole budget."""
        return solved(played.best, self.dim)[-1] / len(TARGETS)

    def facts(self, played: list) -> dict:
        """The share of (function, target) pairs reached at each checkpoint."""
        share = np.mean([solved(run.best, self.dim) for run in played], axis=0) / len(TARGETS)
        within = CHECKPOINTS <= self.times
        return {"at": CHECKPOINTS[within].tolist(), "share": np.round(share[within], 4).tolist()}
