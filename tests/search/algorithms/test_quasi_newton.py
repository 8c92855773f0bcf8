"""Quasi-Newton search: its line search, beside SciPy, with offsets and noise, restarts and batches."""

import math
from functools import partial

import jax
import numpy as np
import pytest
from scipy.optimize import minimize as scipy_minimize

from zojax import search
from zojax.search.algorithms import _wolfe
from zojax.search.algorithms._wolfe import C1, C2, End
from zojax.search.engine.numpy_program import numpy_program

BOX = search.space(search.uniform(-5, 5, (5,)))
BUDGET = 500


def oscillating(x):
    """BBOB's T_osz: wiggles at every scale."""
    size = np.abs(np.where(x == 0, 1, x))
    low, c1, c2 = np.log(size), np.where(x > 0, 10, 5.5), np.where(x > 0, 7.9, 3.1)
    return np.where(
        x == 0, 0, np.sign(x) * np.exp(low + 0.049 * (np.sin(c1 * low) + np.sin(c2 * low)))
    )


def ellipsoid(x, condition=1e4):
    return float(np.sum(condition ** (np.arange(5) / 4) * oscillating(np.asarray(x) - 1.3) ** 2))


def rosenbrock(x):
    z = 0.5 * (np.asarray(x) - 1)
    return float(np.sum(100 * (z[1:] - z[:-1] ** 2) ** 2 + (1 - z[:-1]) ** 2))


def found(fun, keys=5, **options):
    algorithm = search.quasi_newton(**options)
    run = {"budget": BUDGET, "jit": False}
    return [search.minimize(fun, BOX, algorithm, key=key, **run) for key in range(keys)]


def by_scipy(fun, start):
    """The least value of restarts of L-BFGS-B within the budget."""
    values, rng = [], np.random.default_rng(0)

    def counted(x):
        if len(values) == BUDGET:
            raise StopIteration
        values.append(fun(x))
        return values[-1]

    try:
        while True:
            settings = {"ftol": 0, "gtol": 0}
            scipy_minimize(
                counted, start, method="L-BFGS-B", bounds=[(-5, 5)] * 5, options=settings
            )
            start = rng.uniform(-5, 5, 5)
    except StopIteration:
        return min(values)


def test_it_equals_scipy_on_an_oscillating_ellipsoid():
    ours = found(ellipsoid)
    theirs = [by_scipy(ellipsoid, result.history.points[0]) for result in ours]
    assert np.median([r.best_value for r in ours]) < 3 * np.median(theirs) < 1e-4


@pytest.mark.parametrize("fun, bar", [(rosenbrock, 1e-12), (lambda x: 1000 + rosenbrock(x), 1e-7)])
def test_an_offset_costs_only_the_resolution_of_float64(fun, bar):
    offset = fun(np.full(5, 3.0))
    assert np.median([r.best_value - offset for r in found(fun)]) < bar


@pytest.mark.parametrize("rounds", ["values", "points"])
def test_functions_that_compute_in_float32(rounds):
    """Differences as wide as in float64 would be lost in their rounding."""

    def fun(x):
        x = np.asarray(x, np.float32)
        x = x if rounds == "values" else x.astype(float)
        return float(np.sum(np.float32([1, 3, 10, 30, 100]) * (x - np.float32(1.3)) ** 2))

    assert np.median([r.best_value for r in found(fun)]) < 1e-3


def test_it_starts_again_where_it_stops():
    """The first coordinate has four basins, and one of them is the lowest."""

    def basins(x):
        x = np.asarray(x)
        first = min((x[0] - c) ** 2 + (c != 3) for c in (-3, -1, 1, 3))
        return float(first + np.sum((x[1:] - 1) ** 2))

    results = found(basins)
    assert np.median([r.best_value for r in results]) < 1e-8
    assert np.median([np.min(r.history.values[:30]) for r in results]) > 0.9  # not at once


def test_a_batch_does_the_work_of_several_iterations():
    def rotated(x):
        x = np.asarray(x) - 1.3
        return float(np.sum(10 ** np.arange(5) * (x - 0.4 * np.sum(x)) ** 2))

    one, eight = found(rotated), found(rotated, batch_size=8)
    assert np.median([r.best_value for r in one]) < 1e-9
    assert np.median([r.best_value for r in eight]) < 1e-6  # in 63 batches
    for result in eight:
        assert result.evaluations == BUDGET
        assert np.all(np.abs(result.history.points) <= 5)


FUNCTIONS = {  # of a step, with their slopes
    "quadratic": (lambda t: (t - 3) ** 2, lambda t: 2 * (t - 3)),
    "far": (lambda t: -math.log1p(t) + 1e-3 * t, lambda t: -1 / (1 + t) + 1e-3),
    "near": (lambda t: (40 * t - 1) ** 2, lambda t: 80 * (40 * t - 1)),
    "sharp": (lambda t: math.hypot(t - 0.7, 0.01), lambda t: (t - 0.7) / math.hypot(t - 0.7, 0.01)),
    "waves": (
        lambda t: -math.sin(t) - 0.3 * math.sin(5 * t),
        lambda t: -math.cos(t) - 1.5 * math.cos(5 * t),
    ),
    "walled": (lambda t: (t - 0.2) ** 2 if t < 0.5 else math.inf, lambda t: 2 * (t - 0.2)),
}


def by_numpy(fun, *inputs):
    program, shapes = numpy_program(fun, *inputs)
    return jax.tree.unflatten(jax.tree.structure(shapes), program(*jax.tree.leaves(inputs)))


@pytest.mark.parametrize("n", [1, 4])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_step_fulfils_the_strong_wolfe_conditions(name, n):
    value, slope = FUNCTIONS[name]
    start, fall = np.float32(value(0.0)), np.float32(slope(0.0))
    line, step = by_numpy(_wolfe.no_bracket, start, fall), np.float32(1)
    for _ in range(10):
        steps = by_numpy(partial(_wolfe.steps_of, n=n), line, step)
        values = np.array([value(float(t)) for t in steps], np.float32)
        line, step, i, is_low = by_numpy(_wolfe.evaluated, line, steps, values)
        if not is_low:
            continue
        t = float(steps[i])
        if not by_numpy(_wolfe.is_steep, line, np.float32(slope(t))):
            break
        new = End(steps[i], values[i], np.float32(slope(t)))
        line, step = by_numpy(_wolfe.narrowed, line, new)
    else:
        pytest.fail(f"no step after 10 evaluations: {line}")
    assert value(t) <= start + C1 * t * fall + 1e-6
    assert abs(slope(t)) <= C2 * abs(fall) + 1e-6
