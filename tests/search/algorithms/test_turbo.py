"""TuRBO: the process against the textbook's formulas, the starts, the region, and what it reaches."""

import os
import subprocess
import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.search.engine._helpers import run
from zojax import search
from zojax.search._random import make_random
from zojax.search.algorithms import _gaussian_process as gp
from zojax.search.algorithms.turbo import LENGTH, _latin_hypercube

ABC, X = search.choice(["a", "b", "c"]), search.uniform(-1, 3, (2,))
MIXED = search.space({"kind": ABC, "n": search.integers(0, 4), "x": X})
KNOWN, ROWS = 6, 8
LOGS = np.log([0.7, 1.3, 0.4, 2.0, 0.2, 1e-3])  # four lengths, trend, noise


def features_of(points):
    """By the definition, one point at a time."""
    rows = []
    for kind, n, *x in np.asarray(points, float):
        options = [float(kind == k) / np.sqrt(2) for k in range(3)]
        rows.append([(n + 0.5) / 5, *((np.array(x) + 1) / 4), *options])
    return np.array(rows)


def kernel(a, b, logs):
    """Matérn 5/2 and a trend, one pair at a time."""
    lengths = np.exp(logs)[[1, 2, 3, 0, 0, 0]]
    a, b = a / lengths, b / lengths
    s = np.sqrt(5 * np.sum((a - b) ** 2))
    return (1 + s + s**2 / 3) * np.exp(-s) + np.exp(logs[-2]) * (1 + a @ b) ** 2


def covariance(rows, logs):
    noise = np.exp(logs[-1]) + 100 * np.finfo(np.float64).eps
    return np.array([[kernel(a, b, logs) for b in rows] for a in rows]) + noise * np.eye(len(rows))


def log_density(logs, rows, values):
    """Of the parameters, with the best variance of the process, up to a constant."""
    matrix = covariance(rows, logs)
    n, variance = len(values), values @ np.linalg.solve(matrix, values) / len(values)
    medians = np.log([*4 * [gp.LENGTH * 2], gp.TREND, gp.NOISE])
    deviations = np.array([*4 * [gp.SPREADS[0]], *gp.SPREADS[1:]])
    prior = -0.5 * np.sum(((logs - medians) / deviations) ** 2)
    return prior - 0.5 * n * np.log(variance) - 0.5 * np.linalg.slogdet(matrix)[1]


RNG = np.random.default_rng(0)
OPTIONS, NUMBERS = RNG.integers(0, 3, ROWS), RNG.integers(0, 5, ROWS)
POINTS = np.column_stack([OPTIONS, NUMBERS, RNG.random((ROWS, 2))])
VALUES = np.where(np.arange(ROWS) < KNOWN, RNG.normal(size=ROWS), 0.0)
NEW = POINTS[::-1] * [1, 1, 2, -1]


def by_jax(fun):
    """fun(data, features of new points) in float64. The last two rows of the data are not known."""

    @jax.jit
    def run(points, values, new):
        known = jnp.arange(ROWS) < KNOWN
        data = gp.Data(gp.features(MIXED, points), values, known)
        return fun(data, gp.features(MIXED, new))

    with jax.enable_x64(True):
        return run(POINTS, VALUES, NEW)


def test_mean_and_variance_are_those_of_the_textbook():
    def predicted(data, new):
        return gp.predicted(gp.posterior(MIXED, jnp.asarray(LOGS), data), new)

    mean, variance = by_jax(predicted)
    rows, values, new = features_of(POINTS[:KNOWN]), VALUES[:KNOWN], features_of(NEW)
    matrix = covariance(rows, LOGS)
    cross = np.array([[kernel(a, b, LOGS) for b in rows] for a in new])
    own = np.array([kernel(a, a, LOGS) for a in new])
    scale = values @ np.linalg.solve(matrix, values) / KNOWN
    np.testing.assert_allclose(mean, cross @ np.linalg.solve(matrix, values), rtol=1e-6)
    explained = np.sum(cross * np.linalg.solve(matrix, cross.T).T, axis=1)
    # At a known point the variance is the noise, up to rounding.
    np.testing.assert_allclose(variance, scale * (own - explained), rtol=1e-5, atol=1e-9)


def test_the_gradient_is_that_of_the_posterior_density():
    found = by_jax(lambda data, new: gp._gradient(MIXED, jnp.asarray(LOGS), data))
    rows, values, steps = features_of(POINTS[:KNOWN]), VALUES[:KNOWN], 1e-5 * np.eye(len(LOGS))
    ends = [[log_density(LOGS + s * h, rows, values) for s in (1, -1)] for h in steps]
    expected = [(right - left) / 2e-5 for right, left in ends]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)


def test_starts_fill_the_space():
    space = search.space({"kind": search.choice([1, 2]), "x": search.uniform(0, 1, (3,))})
    x = np.asarray(_latin_hypercube(space, make_random(jax.random.key(0)), 10))
    assert (np.sort(np.floor(10 * x[:, 1:]).astype(int), axis=0).T == np.arange(10)).all()
    assert x[:, 0].sum() == 5
    assert len({tuple(column) for column in np.argsort(x[:, 1:], axis=0).T}) > 1


THREADS = """
import time
import jax, jax.numpy as jnp, numpy as np
from jax import lax
from zojax.search.algorithms.turbo import MOST
from zojax.search.engine.numpy_program import numpy_program

def factored(a):
    factor = lax.linalg.cholesky(a, symmetrize_input=False)
    inverse = lax.linalg.triangular_solve(factor, jnp.eye(MOST), left_side=True, lower=True)
    return inverse.T @ inverse

jax.config.update("jax_enable_x64", True)
program, _ = numpy_program(factored, a := np.eye(MOST))
for _ in range(50):
    program(a)
print(time.process_time() - time.thread_time(), time.process_time())
"""


def test_a_full_memory_is_factored_by_one_thread():
    """Several threads of LAPACK wait for each other: an ask took 100 ms of processor time for 5."""

    def others(threads):
        env = os.environ | {"OPENBLAS_NUM_THREADS": str(threads), "JAX_PLATFORMS": "cpu"}
        command = [sys.executable, "-c", THREADS]
        other, whole = map(float, subprocess.check_output(command, env=env, text=True).split())
        return other / whole

    assert others(2) < others(1) + 0.1


def test_the_region_grows_with_successes_and_shrinks_with_failures():
    space, algorithm = search.space(search.uniform(0, 1, (2,))), search.turbo(2)
    state = algorithm.init(jax.random.key(0), space, 40)
    tell = jax.jit(partial(algorithm.tell, space))

    def lengths(state, values):
        for value in values:
            state = tell(state, jnp.full((1, 2), 0.5), jnp.array([value]))
        return float(state.length), state

    length, state = lengths(state, [9.0, 8.0])
    assert length == np.float32(LENGTH)  # the starts do not count
    length, state = lengths(state, [7.0, 6.0, 5.0])
    assert length == np.float32(2 * LENGTH)
    length, state = lengths(state, [6.0, 5.0, 9.0])
    assert length == np.float32(2 * LENGTH)
    length, state = lengths(state, [6.0])
    assert length == np.float32(LENGTH)


def ellipsoid(x):
    return float(np.sum(10 ** (3 * np.arange(5) / 4) * (x - 0.4) ** 2))


def fails_outside(x):
    return np.inf if x.sum() > 1 else ellipsoid(x)


@pytest.mark.parametrize("fun, bar", [(ellipsoid, 0.01), (fails_outside, 6)])
def test_ten_evaluations_a_coordinate(fun, bar):
    """The portfolio reaches 10, and 30 where half the box fails."""
    space = search.uniform(-1, 1, (5,))
    options = {"budget": 50, "jit": False}
    found = [run(fun, space, search.turbo(), key=k, **options).best_value for k in range(3)]
    assert np.median(found) < bar


def test_the_default_is_turbo_where_options_can_be_learnt():
    for domain in (search.choice([*"abc"]), search.integers(0, 10**6), search.uniform(0, 1)):
        assert search.default_algorithm(domain, budget=40) is search.turbo()
    # Each coordinate of an ordering has 500 places: as many columns of a Gaussian process.
    for domain in (search.permutation(5), search.choice(range(1000))):
        assert search.default_algorithm(domain, budget=40) is not search.turbo()
