"""Our searches on a benchmark problem: all seeds in one compiled program.

One seed after another: side by side every branch of a `cond` or `switch` would be computed for each.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.problems import Box, Problem
from zojax import search

DOMAINS = {
    "c": lambda low, high, shape: search.uniform(low, high, shape),
    "i": lambda low, high, shape: search.integers(int(low), int(high), shape),
    "k": lambda low, high, shape: search.choice(range(int(high) + 1), shape),
}


def space_of(box: Box) -> search.Space:
    """The box as a search space: one array of continuous, one of integer, one of categorical variables."""
    parts = {}
    for kind, domain in DOMAINS.items():
        here = box.kind == kind
        if here.any():
            parts[kind] = domain(box.lo[here][0], box.hi[here][0], (int(here.sum()),))
    return search.space(parts)


def flatten(point: dict) -> jax.Array:
    """The user's point as the vector that the formulas take; its parts are in the order c, i, k."""
    return jnp.concatenate([1.0 * point[kind] for kind in sorted(point)])


class Played(NamedTuple):
    """Best so far (seeds, budget) as the method saw it, and what a row of the tables counts (seeds,)."""

    best: np.ndarray
    final: np.ndarray


def play(algorithm: search.Algorithm, problem: Problem, seeds: int) -> Played:
    """Runs an algorithm from `seeds` keys, each with the shift and the noise of its seed."""
    shifts = jnp.asarray(np.stack([problem.shift(seed) for seed in range(seeds)]))
    keys = jax.vmap(jax.random.key)(jnp.arange(seeds))
    run = partial(_run, algorithm, problem, space_of(problem.box))
    best, final = jax.jit(lambda *each: jax.lax.map(lambda one: run(*one), each))(keys, shifts)
    return Played(np.asarray(best, float), np.asarray(final, float))


def _run(algorithm, problem, space, key, shift):
    """One run by ask and tell."""
    noise_key = jax.random.fold_in(key, 1)

    def value(x):
        return problem.formula(flatten(space.decode(x)), shift, jnp)

    def step(carry, i):
        state, best = carry
        x, state = algorithm.ask(space, state)
        values = jax.vmap(value)(x)
        if problem.noise:
            draws = jax.random.normal(jax.random.fold_in(noise_key, i), values.shape)
            values += problem.noise * draws
        state = algorithm.tell(space, state, x, values)
        best = jnp.minimum(best, jax.lax.cummin(values))
        return (state, best[-1]), best

    start = algorithm.init(key, space, problem.budget), jnp.asarray(jnp.inf)
    steps = jnp.arange(problem.budget // algorithm.batch_size)
    (state, last), best = jax.lax.scan(step, start, steps)
    final = value(algorithm.best(state)[0]) if problem.noise else last
    return best.reshape(-1), final
