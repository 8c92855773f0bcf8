"""The 24 BBOB functions (bbobax) as problems, and the targets that a run is judged by.

Values are in float64: the last targets are below what float32 resolves. A run counts, after t evaluations,
how many of 51 targets 10^2 .. 10^-8 above the optimum it has reached.
"""

from functools import cache, partial

import bbobax
import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.problems import Problem, box

DIMS = (5, 20, 40)
BUDGETS = (10, 100, 1000)  # times the dimension
TARGETS = 10.0 ** np.linspace(2, -8, 51)
CHECKPOINTS = np.unique(np.round(np.geomspace(1, 1000, 31), 2))  # evaluations / dimension
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


def problem(name: str, dim: int) -> Problem:
    """As a row for the host peers: the seed is the instance."""

    def formula(x, params, xp):
        del xp
        return _compiled(name, dim)(jnp.asarray(x), params)

    title = f"bbob {name}-{dim}"
    return Problem(title, formula, box(-5, 5, dim), 1000 * dim, partial(instance, name, dim))
