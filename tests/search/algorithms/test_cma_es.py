"""CMA-ES: its restarts, and its place in the default search."""

import jax.numpy as jnp
import numpy as np

from zojax import search
from zojax.search.algorithms._bipop import first_regime, next_regime

LENGTHS = 900, 1500, 400, 300, 700, 5000, 200, 2600  # evaluations of runs


def kinds_of_pycma(lengths):
    """(is small, population over the first) of runs, by the rule of `cma.fmin2(bipop=True)`."""
    small, large, kinds = [lengths[0]], [], [(True, 1)]
    for length in lengths[1:]:
        is_small = sum(small) < max(1, sum(large))
        (small if is_small else large).append(length)
        kinds.append((is_small, 2 ** len(large)))
    return kinds


def test_restarts_follow_the_rule_of_pycma():
    regime, evaluations, kinds = first_regime(8, 0.25, jnp.float32), 0, [(True, 1)]
    for length in LENGTHS[:-1]:
        evaluations += length
        largest = jnp.ones(2)  # the widest population and the least step of a small run
        regime = next_regime(regime, evaluations, largest, least=8, most=1024, step=0.25)
        kinds.append((bool(regime.is_small), int(regime.population) // 8))
        assert np.isclose(regime.step, 0.0025 if regime.is_small else 0.25)
    assert kinds == kinds_of_pycma(LENGTHS)


def schaffer(x):
    """Many wells on a hill, rotated: small populations end in one of them."""
    s = jnp.sqrt((x[1:] - 0.7) ** 2 + (x[:-1] - x[1:]) ** 2)
    return jnp.mean(jnp.sqrt(s) * (1 + jnp.sin(50 * s**0.2) ** 2)) ** 2


def test_the_default_search_leaves_wells():
    space = search.uniform(-5, 5, (5,))
    found = search.minimize(schaffer, space, budget=5000, key=0, repeats=8)
    assert np.median(found.run_values) < 1e-3


def test_the_best_integers_may_lie_at_their_bounds():
    sizes = np.repeat([2, 4, 8, 16], 2)
    space = [search.integers(0, int(n) - 1) for n in sizes] + [search.uniform(-5, 5, (2,))]
    optimum = np.concatenate([np.where(np.arange(8) % 2, sizes - 1, 0), [1.0, -3.0]])
    width = np.concatenate([10 / (sizes + 1), [1.0, 1.0]])

    def sphere(point):
        x = jnp.concatenate([jnp.stack(point[:8]), point[8]])
        return jnp.sum((width * (x - optimum)) ** 2)

    found = search.minimize(sphere, space, search.cma_es(), budget=1000, key=0, repeats=16)
    assert np.median(found.run_values) < 1e-3  # .2 where points beyond the bounds are clipped


def test_integers_keep_a_least_deviation():
    space = search.space([search.integers(0, 9), search.uniform(-1, 1)])
    found = search.minimize(lambda p: p[0] + p[1] ** 2, space, search.cma_es(), budget=300, key=0)
    now = found.state.distribution
    deviations = now.step * now.scale * np.sqrt(np.diagonal(now.covariance.matrix)) * space.cells[1]
    assert deviations[0] > 0.199 > deviations[1]


def test_among_integers_the_default_search_has_cma_es_from_the_start():
    space = [search.integers(0, 9, (4,)), search.uniform(-1, 1, (2,))]

    def fun(point):
        return jnp.sum((point[0] - 3) ** 2) + jnp.sum(point[1] ** 2)

    found = search.minimize(fun, space, search.portfolio(), budget=300, key=0)
    assert found.state.used[0] > 150
