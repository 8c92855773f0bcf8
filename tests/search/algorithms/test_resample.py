"""Resampling: the inner algorithm sees means."""

import jax
import jax.numpy as jnp
import numpy as np

from tests.search.engine._helpers import run
from zojax import search

SPACE = search.space(search.uniform(0, 1, (2,)))


def test_the_inner_algorithm_is_told_means():
    inner = search.random_search(2)
    algorithm = search.resample(inner, 3)
    assert (algorithm.batch_size, algorithm.in_flight) == (6, 1) and algorithm.repeats_points
    state = algorithm.init(jax.random.key(0), SPACE, 60)
    x, state = algorithm.ask(SPACE, state)
    points, after = inner.ask(SPACE, inner.init(jax.random.key(0), SPACE, 20))
    np.testing.assert_array_equal(x, jnp.repeat(points, 3, axis=0))
    values = jnp.array([1.0, 2.0, 6.0, 4.0, 1.0, 1.0])
    told = algorithm.tell(SPACE, state, x, values)
    expected = inner.tell(SPACE, after, points, jnp.array([3.0, 2.0]))
    jax.tree.map(np.testing.assert_array_equal, told, expected)
    assert algorithm.best(told)[1] == 2


def test_a_point_that_was_not_evaluated_often_enough_does_not_count():
    found = run(lambda x: jnp.sum(x), SPACE, search.resample(search.random_search(), 4), budget=10)
    assert found.evaluations == 10
    points = found.history.points
    np.testing.assert_array_equal(points[:4], np.repeat(points[:1], 4, axis=0))
    np.testing.assert_allclose(found.best_value, np.min(found.history.values[:8]), rtol=1e-6)


def test_given_points_are_evaluated_as_often():
    def noisy(x, key):
        return x**2 + jax.random.normal(key)

    algorithm = search.resample(search.sracos(), 10)
    options = {"budget": 30, "key": 0, "init_points": [0.5], "with_key": True}
    line = search.uniform(-1, 1)
    compiled, host = (run(noisy, line, algorithm, jit=jit, **options) for jit in (True, False))
    assert np.all(compiled.history.points[:10] == 0.5) and compiled.history.points[10] != 0.5
    np.testing.assert_allclose(compiled.history.values, host.history.values, rtol=1e-5)
    means = compiled.history.values.reshape(3, 10).mean(axis=1)
    np.testing.assert_allclose(compiled.best_value, means.min(), rtol=1e-5)
