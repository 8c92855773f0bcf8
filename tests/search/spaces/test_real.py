"""Real numbers without bounds."""

import numpy as np
import pytest

from tests.search.engine._helpers import run
from tests.search.spaces._helpers import sampled
from zojax import search


def test_samples_lie_as_far_outside_as_documented():
    space = search.space(search.real(3, 0.5))
    distance = np.abs(space.point(sampled(space, 0, 20_000)) - 3) / 0.5
    for share, scales in ((0.5, 1.0567), (0.7, 2.3374), (0.9, 259.64)):
        error = 5 * np.sqrt(share * (1 - share) / 20_000)
        assert abs(np.mean(distance < scales) - share) < error
    assert distance.max() <= 1e6 + 2


@pytest.mark.parametrize("far", [0.0, 1e-6, 0.3, -2.5, 100, -1e5, 9.9e5])
def test_numbers_far_outside_are_encoded(far):
    space = search.space(search.real(2, 0.1))
    number = 2 + 0.1 * far
    assert space.point(space.encode(number)) == pytest.approx(number, rel=1e-9, abs=1e-9)
    with pytest.raises(ValueError, match="outside the space"):
        space.encode(2 + 0.1 * 1.01e6)


def bowl_at(best):
    return lambda x: float(np.sum((x - best) ** 2))


@pytest.mark.parametrize(
    "name, budget, error",
    [
        ("portfolio", 600, 1e-3),
        ("quasi_newton", 600, 1e-6),
        ("coordinate_search", 600, 1e-3),
        ("cma_es", 2000, 0.1),
        ("sracos", 600, 60),
    ],
)
def test_a_minimum_at_a_hundred_scales_is_found(name, budget, error):
    best = np.array([100.0, -100.0, 0.5])
    algorithm = getattr(search, name)()
    found = run(bowl_at(best), search.real(shape=(3,)), algorithm, budget=budget, jit=False)
    np.testing.assert_allclose(found.best, best, atol=error)


def test_bad_reals_are_refused():
    for loc, scale in ((0, 0), (0, -1), (np.inf, 1), (0, np.nan)):
        with pytest.raises(ValueError, match="finite loc and a positive scale"):
            search.real(loc, scale)
    with pytest.raises(ValueError, match="holds only .* numbers in float32: .*offset"):
        search.real(1e6, 0.1)
    with pytest.raises(TypeError, match="loc of real must be a number"):
        search.real([0, 1])
