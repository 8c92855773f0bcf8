"""Resampling: the value of a point is the mean of several evaluations."""

import jax.numpy as jnp

from zojax._checks import require_count
from zojax.search.algorithms._algorithm import Algorithm, require_algorithm
from zojax.search.algorithms._toolkit import reused


@reused
def resample(algorithm: Algorithm, times: int) -> Algorithm:
    """Any algorithm for a noisy function: it is told the mean of `times` evaluations of each point.

    The standard deviation of the noise falls by sqrt(times). The budget allows fewer points, by a factor
    `times`. The evaluations of a point form one batch, which runs together in an executor or compiled. With
    `minimize(..., with_key=True)`, each evaluation has its own key.

    Args:
      algorithm: any `Algorithm`.
      times: evaluations of a point, also of `init_points` without values. One failed evaluation makes the
        point fail.

    Raises:
      TypeError: algorithm is not an `Algorithm`; times is no int.
      ValueError: times below 1; a budget below times.

    >>> import jax
    >>> from zojax import search
    >>> def noisy(x, key):
    ...     return abs(x - 1).sum() + 0.3 * jax.random.normal(key)
    >>> found = search.minimize(noisy, search.uniform(-4, 4, (3,)),
    ...                         search.resample(search.sracos(), 20), budget=9000, key=0, with_key=True)
    >>> bool(abs(found.best - 1).sum() < 1)
    True
    """
    require_algorithm("algorithm", algorithm)
    times = require_count("times", times)

    def ask(space, state):
        x, state = algorithm.ask(space, state)
        return jnp.repeat(x, times, axis=0), state

    def tell(space, state, x, values):
        # Values beyond the budget are inf, so an incomplete point does not count.
        means = jnp.mean(values.reshape(-1, times), axis=1)
        return algorithm.tell(space, state, x[::times], means)

    def init(key, space, budget):
        if budget < times:
            raise ValueError(f"budget must cover the {times} evaluations of a point, got {budget}.")
        return algorithm.init(key, space, budget // times)

    return algorithm._replace(
        init=init,
        ask=ask,
        tell=tell,
        batch_size=algorithm.batch_size * times,
        in_flight=1,
        repeats_points=True,
        samples=algorithm.samples * times,
    )
