"""The default search in batches, for executors."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from zojax import search
from zojax.search.algorithms._side_by_side import side_by_side

SPACE = search.uniform(-5, 5, (10,))
ROTATION = np.linalg.qr(np.random.default_rng(0).normal(size=(10, 10)))[0]


def sphere(x):
    return float(np.sum((x - 1.3) ** 2))


def ellipsoid(x):
    return float(np.sum(10 ** np.linspace(0, 3, 10) * (ROTATION @ (x - 1.3)) ** 2))


def rastrigin(x):
    z = x - 1.3
    return float(np.sum(z * z + 20 * np.sin(np.pi * z) ** 2))


@pytest.mark.parametrize(
    "fun, bar",  # medians of one worker: 1e-27, 6e-24, 2e-14
    [(sphere, 1e-20), (ellipsoid, 1e-12), (rastrigin, 1.5)],
)
def test_eight_workers_search_well(fun, bar):
    with ThreadPoolExecutor(8) as pool:
        results = [
            search.minimize(fun, SPACE, budget=1000, key=key, executor=pool) for key in range(3)
        ]
    assert np.median([result.best_value for result in results]) < bar
    assert all(result.evaluations == 1000 for result in results)


@pytest.mark.parametrize("budget", [3, 50, 300])
def test_batches_in_mixed_spaces(budget):
    space = {"x": search.uniform(-1, 1, (2,)), "n": search.integers(0, 9)}
    space["kind"] = search.choice(["a", "b", "c"])

    def fun(p):
        return float(np.sum(np.square(p["x"] - 0.2)) + abs(p["n"] - 7) + (p["kind"] != "c"))

    with ThreadPoolExecutor(4) as pool:
        result = search.minimize(fun, space, budget=budget, key=0, executor=pool)
    assert result.evaluations == budget
    assert result.best_value == result.history.values.min()
    if budget == 300:
        assert result.best_value < 0.01


def test_copies_join_their_moves():
    """A reset moves one coordinate, so a point with two new ones joins two resets."""
    algorithm = side_by_side(search.coordinate_reset(), 16)
    options = {"budget": 400, "key": 0, "jit": False}
    history = search.minimize(sphere, SPACE, algorithm, **options).history
    joined = []
    for first in range(16, 400, 16):
        best = int(np.argmin(history.values[:first]))
        moves = np.sum(history.points[first : first + 16] != history.points[best], axis=1)
        assert np.all(moves[1:] <= 1)
        if moves[0] > 1:
            joined.append(history.values[first] < history.values[best])
    assert len(joined) > 3 and np.mean(joined) > 0.5  # moves of a separable function add up
