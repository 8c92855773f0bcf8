"""Resampling: every point is evaluated several times, and its value is the mean."""

import jax.numpy as jnp

from zojax._checks import require_count
from zojax.search.algorithms._algorithm import Algorithm, reused


@reused
def resample(algorithm: Algorithm, times: int) -> Algorithm:
    """Any algorithm for a noisy function: it sees the mean of `times` evaluations of each point.

    The standard deviation of the noise falls by sqrt(times), and so does the number of points that the
    budget allows by `times`. The evaluations of a point form one batch: they run together where there
    is an executor, or compiled. Each has a key of its own with `minimize(..., with_key=True)`.

    Args:
      algorithm: whatever `minimize` takes.
      times: evaluations of a point. A point with a failed one counts as failed. Points that `minimize` is
        given without values are evaluated as often.

    Returns:
      An `Algorithm`.

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
    if not isinstance(algorithm, Algorithm):
        raise TypeError(f"algorithm must be one of zojax.search, got {algorithm!r}.")
    times = require_count("times", times)

    def ask(space, state):
        x, state = algorithm.ask(space, state)
        return jnp.repeat(x, times, axis=0), state

    def tell(space, state, x, values):
        # Beyond the budget values are inf: a point that was not evaluated often enough does not count.
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
