"""`quadratic_model` beside exact quadratics, bounds and batches."""

import jax
import numpy as np
import pytest

from tests._numpy import by_numpy
from zojax import search
from zojax.search.algorithms.quadratic_model import _minimum

SPACE = search.uniform(-5, 5, (4,))
ROTATION = np.linalg.qr(np.random.default_rng(0).normal(size=(4, 4)))[0]


def ellipsoid(x, center=1.3):
    return float(np.sum(10 ** np.arange(4) * (ROTATION @ (x - center)) ** 2))


def lowest(fun, batch_size, budget=160, key=0):
    algorithm = search.quadratic_model(batch_size=batch_size)
    return search.minimize(fun, SPACE, algorithm, budget=budget, key=key, jit=False)


@pytest.mark.parametrize("batch_size", [1, 8])
def test_any_batch_size_finds_the_minimum_of_a_quadratic(batch_size):
    values = [lowest(ellipsoid, batch_size, key=key).best_value for key in range(3)]
    assert np.median(values) < 1e-12


def test_a_minimum_at_the_bounds_is_found():
    found = lowest(lambda x: float(np.sum((x - 7) ** 2)), 8)
    np.testing.assert_array_equal(found.best, 5.0)


def test_it_starts_elsewhere_after_its_minimum_or_a_failure():
    def two_bowls(x):
        if x[0] < -3:
            raise ValueError("outside")
        return float(min(np.sum((x - 1.3) ** 2), np.sum((x + 2) ** 2) - 1))

    values = [lowest(two_bowls, 8, 800, key).best_value for key in range(5)]
    assert np.median(values) < -1 + 1e-9


@pytest.mark.parametrize("spectrum", [[1, 2, 3, 4], [0.1, 2, 3, 4], [-1, 0, 1, 4]])
def test_the_step_is_the_minimum_in_the_ball(spectrum):
    rng = np.random.default_rng(1)
    g, h = 0.5 * rng.normal(size=4), ROTATION * np.array(spectrum, float) @ ROTATION.T
    with jax.enable_x64(True):
        step = np.asarray(by_numpy(_minimum)(g, h, np.ones(4, bool)))
    z = rng.normal(size=(20_000, 4))
    z *= rng.random((20_000, 1)) ** 0.25 / np.linalg.norm(z, axis=1, keepdims=True)
    assert np.linalg.norm(step) <= 1 + 1e-4
    assert g @ step + step @ h @ step / 2 <= np.min(z @ g + np.sum(z @ h * z, axis=1) / 2)
