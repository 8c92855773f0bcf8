"""evosax: SNES and CMA_ES in coordinates where the box has length 1; points are clipped to it."""

from functools import cache

import evosax.algorithms
import jax
import jax.numpy as jnp
import numpy as np


def run(fun, box, budget, seed, name):
    """Default population 4 + 3 log d, a uniform start, standard deviation a quarter of the range."""
    size = 4 + int(3 * np.log(box.dim))
    strategy = _strategy(name, box.dim, size)
    params = strategy.default_params.replace(std_init=0.25)
    key = jax.random.key(seed)
    start = jax.random.uniform(jax.random.fold_in(key, 0), (box.dim,))
    state = strategy.init(key, start, params)
    best, value = None, np.inf
    for generation in range(1, budget // size + 1):
        ask, tell = jax.random.split(jax.random.fold_in(key, generation))
        points, state = strategy.ask(ask, state, params)
        x = box.lo + np.clip(np.asarray(points, float), 0, 1) * (box.hi - box.lo)
        values = np.array([fun(row) for row in x])
        # A penalty on the distance outside, or the mean would drift away unseen.
        outside = np.square(np.asarray(points) - np.clip(points, 0, 1)).sum(1)
        charged = jnp.asarray(values + outside * max(np.ptp(values), 1e-12), points.dtype)
        state, _ = strategy.tell(tell, points, charged, state, params)
        if values.min() < value:
            best, value = x[values.argmin()], values.min()
    mean = box.lo + np.clip(np.asarray(strategy.get_mean(state), float), 0, 1) * (box.hi - box.lo)
    return best if np.isnan(mean).any() else mean


@cache  # one object, hence one compilation, for all seeds
def _strategy(name, dim, size):
    return getattr(evosax.algorithms, name)(population_size=size, solution=jnp.zeros(dim))
