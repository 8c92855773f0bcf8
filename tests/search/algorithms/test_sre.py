"""Random embeddings: a matrix that is never stored."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zojax import search
from zojax.noise import Normals
from zojax.search.algorithms.sre import _times_matrix


def test_the_product_is_that_of_a_normal_matrix():
    seed, d, low = jnp.array([1, 2], jnp.uint32), 500, 4
    matrix = Normals(seed).rows(jnp.arange(low, dtype=jnp.uint32), d) / np.sqrt(low)
    y = jnp.array([[1.0, -0.5, 0.3, 0.7], [0.0, 1.0, 0.0, 0.0]])
    np.testing.assert_allclose(_times_matrix(seed, y, d), y @ matrix, rtol=1e-5, atol=1e-5)
    assert abs(float(jnp.var(matrix)) * low - 1) < 5 * np.sqrt(2 / matrix.size)


def test_memory_is_that_of_a_few_points():
    d = 10**6
    space = search.space(search.uniform(-1, 1, (d,)))
    algorithm = search.sre(search.coordinate_reset(), low_dimension=50, rounds=3)
    state = jax.eval_shape(lambda: algorithm.init(jax.random.key(0), space, 30))

    def step(state):
        x, state = algorithm.ask(space, state)
        return algorithm.tell(space, state, x, jnp.sum(x[:, :3], axis=1))

    compiled = jax.jit(step, donate_argnums=0).lower(state).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 8 * 4 * d
    assert sum(leaf.size for leaf in jax.tree.leaves(state)) < 2.1 * d


def play(algorithm, space, steps):
    def step(state, _):
        x, state = algorithm.ask(space, state)
        values = jnp.sum((x[:, :4] - 0.3) ** 2, axis=1)
        state = algorithm.tell(space, state, x, values)
        return state, (x[0], values[0], state.base, state.round)

    state = algorithm.init(jax.random.key(2), space, steps)
    return jax.jit(lambda state: jax.lax.scan(step, state, None, steps))(state)


@pytest.mark.parametrize("project", [True, False])
def test_rounds_start_from_the_best_point_and_points_are_projected(project):
    space = search.space(search.uniform(-0.5, 0.7, (60,)))
    algorithm = search.sre(search.sracos(), low_dimension=3, rounds=4, project=project)
    state, (x, values, bases, rounds) = play(algorithm, space, 120)
    outside = (x < -0.5) | (x > 0.7)
    assert outside.any() != project
    np.testing.assert_array_equal(rounds, np.minimum((np.arange(120) + 1) // 30, 3))
    best = 0.1 + 0.6 * np.asarray(bases)  # in units of half the width
    for end in (30, 60, 90):
        i = int(np.argmin(values[:end]))
        np.testing.assert_allclose(best[end - 1], x[i], atol=1e-6)
    np.testing.assert_allclose(state.value, np.min(values), rtol=1e-6)
    # The middle of the space has the value .16.
    assert state.value < 0.1


@pytest.mark.parametrize("jit", [True, False])
def test_without_projection_the_best_point_is_the_one_that_was_evaluated(jit):
    def fun(x):
        return ((x - 1.5) ** 2).sum()

    algorithm = search.sre(search.sracos(), low_dimension=5, project=False)
    space = search.uniform(-1, 1, (20,))
    found = search.minimize(fun, space, algorithm, budget=200, key=0, jit=jit)
    np.testing.assert_allclose(fun(found.best), found.best_value, rtol=1e-5)
    assert np.max(np.abs(found.history.points)) > 1.5


def test_a_start_that_is_given_is_the_first_base():
    space = search.space(search.uniform(-1, 1, (50,)))
    algorithm = search.sre(search.coordinate_search(), low_dimension=2)

    @jax.jit
    def start(key):
        x = space.sample(key, 1)[0]
        return x, algorithm.inject(space, algorithm.init(key, space, 50), x, jnp.float32(0.5))

    x, state = start(jax.random.key(5))
    np.testing.assert_allclose(state.base, x, atol=1e-6)
    best = search.coordinate_search().best(state.inner)
    np.testing.assert_array_equal(best[0], [1, 0, 0])
    assert best[1] == 0.5
