"""Values of noisy searches: fresh means with their standard errors, for answers that may be compared."""

import math
from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zojax import search

BOX = search.space(search.uniform(-1, 1, (5,)))
NOISE, RANDOM = 0.1, search.random_search()


def truth(x):
    return float(np.sum((np.asarray(x) - 0.2) ** 2))


def noisy(x, key):
    return jnp.sum((x - 0.2) ** 2) + NOISE * jax.random.normal(key)


def run(fun=noisy, algorithm=None, budget=2000, key=0, **options):
    options = {"with_key": True} | options
    return search.minimize(fun, BOX, algorithm, budget=budget, key=key, **options)


@lru_cache
def found(algorithm=None):
    return [run(algorithm=algorithm, key=key) for key in range(40)]


@pytest.mark.parametrize(
    "algorithm",
    [
        pytest.param(None, id="portfolio"),
        pytest.param(search.snes(), id="snes", marks=pytest.mark.slow),  # a member of the portfolio
        pytest.param(RANDOM, id="random_search"),
        pytest.param(search.ssracos(), id="ssracos", marks=pytest.mark.slow),  # means, as resample
        pytest.param(search.resample(RANDOM, 10), id="resample"),
    ],
)
def test_the_value_of_a_noisy_search_is_that_of_its_point(algorithm):
    results = found(algorithm)
    scores = [(r.best_value - truth(r.best)) / r.best_error for r in results]
    assert np.max(np.abs(scores)) < 4
    assert abs(np.mean(scores)) < 4 / math.sqrt(40)  # no luck, no mean of a population
    error, expected = np.mean([r.best_error for r in results]), NOISE / math.sqrt(2000 // 64)
    np.testing.assert_allclose(error, expected, rtol=0.1)


def test_with_noise_the_noisy_member_has_the_turns_of_cma_es():
    """On an ill-conditioned function, local gains exceed the noise for long."""
    rng = np.random.default_rng(0)
    weights, basis = 10 ** np.arange(5.0), np.linalg.qr(rng.standard_normal((5, 5)))[0]

    def fun(x, key):
        return float(weights @ (basis @ (x - 0.2)) ** 2) + NOISE * rng.standard_normal()

    used = np.asarray(run(fun, budget=800, jit=False).state.used)
    assert used[0] == 0 and used[-1] > 0.75 * 400 - 18  # a turn has 18 evaluations


def test_a_last_batch_without_all_values_is_compared_by_those_it_has():
    rng = np.random.default_rng(0)

    def fun(x, key):
        return truth(x) + NOISE * rng.standard_normal()

    state = run(fun, search.portfolio(batch_size=8), budget=1000, jit=False).state
    assert bool(state.noisy) and (1000 - 1000 // 64) % 8 > 0
    assert np.all(state.counts.sum(1) > 0) and np.all(np.isfinite(state.sums))


def test_the_best_point_is_evaluated_again_only_if_it_changed():
    rng, seen = np.random.default_rng(0), []

    def fun(x, key):
        seen.append(tuple(x))
        return (-1.0 if seen[-1] == seen[0] else 9.0) + 0.01 * rng.standard_normal()

    run(fun, budget=150, jit=False)
    # Two at the start and two of the answer. A line search may return to it. A look a turn makes 13.
    assert 4 <= seen.count(seen[0]) <= 6


@pytest.mark.parametrize("batch_size", [1, 8])
def test_rare_outliers_decide_nothing(batch_size):
    """Two values of a point often agree. The lowest values are luck, and means say nothing."""
    values = []
    for seed in range(4):
        rng = np.random.default_rng(seed)

        def fun(x, key, rng=rng):
            hit, (a, b) = rng.uniform() < 0.2, rng.standard_normal(2)
            return truth(x) + hit * a / abs(b)

        algorithm = search.portfolio(batch_size=batch_size)
        values.append(truth(run(fun, algorithm, budget=1000, key=seed, jit=False).best))
    assert max(values) < 0.01


def test_the_portfolio_answers_with_the_better_of_two_points_by_fresh_values():
    """The values of a population are above that of its centre, so both answers are evaluated again."""
    chosen = []
    for result in found():
        state = result.state
        assert bool(state.noisy) and state.counts.sum(1).tolist() == [8, 7]  # (2000 - 31) // 128
        medians = [
            np.median(sums[counts > 0])
            for sums, counts in zip(state.sums, state.counts, strict=True)
        ]
        answers = state.x, search.cma_es(noisy=True).best(state.noisy_member)[0]
        chosen.append(int(np.argmin(medians)))
        np.testing.assert_array_equal(result.best, answers[chosen[-1]])
        exact = [truth(x) for x in answers]
        assert exact[chosen[-1]] < min(exact) + 4 * NOISE * math.sqrt(2 / 7)
    assert 20 < sum(chosen)  # the centre is better most of the time


# Each value once: the four pairs are programs of their own.
SLOW = (pytest.param(*pair, marks=pytest.mark.slow) for pair in [(True, 1), (False, 3)])
PAIRS = [(True, 3), (False, 1), *SLOW]


@pytest.mark.parametrize("jit, repeats", PAIRS)
def test_the_best_point_is_evaluated_within_the_budget(jit, repeats):
    options = {"jit": jit, "repeats": repeats, "budget": 330, "algorithm": search.random_search(8)}
    result = run(**options)
    assert result.evaluations == 330 * repeats and result.message == "budget spent"
    again = result.history.values[-5:]  # 330 // 64
    assert np.all(result.history.points[-5:] == result.best)
    assert not np.all(result.history.points[-6] == result.best)
    assert len(set(again.tolist())) == 5  # a key each
    np.testing.assert_allclose(result.best_value, again.mean(), rtol=1e-6)
    np.testing.assert_allclose(result.best_error, again.std(ddof=1) / math.sqrt(5), rtol=1e-6)
    assert result.best_value == result.run_values.min() and len(result.run_values) == repeats


@pytest.mark.parametrize("stop", [{"target": 0.9}, {"patience": 30}])
def test_host_and_device_end_with_the_same_evaluations(stop):
    device, host = (run(algorithm=RANDOM, budget=300, jit=jit, **stop) for jit in (True, False))
    assert device.message == host.message != "budget spent" and device.evaluations < 300
    np.testing.assert_allclose(device.history.values, host.history.values, atol=1e-5)
    np.testing.assert_allclose(device.best_value, host.best_value, atol=1e-5)
    np.testing.assert_allclose(device.best_error, host.best_error, atol=1e-5)
    assert np.all(device.history.points[-4:] == device.best)


def test_maximizing_has_the_same_error():
    least = run(budget=300, algorithm=RANDOM)
    most = run(lambda x, key: -noisy(x, key), budget=300, algorithm=RANDOM, maximize=True)
    np.testing.assert_allclose(most.best_value, -least.best_value, rtol=1e-5)
    np.testing.assert_allclose(most.best_error, least.best_error, rtol=1e-5)
    assert f"best value {most.best_value:.6g} +- {most.best_error:.2g} at" in str(most)


def test_no_error_is_claimed_where_there_is_none():
    quiet = run(lambda x: jnp.sum(x**2), RANDOM, budget=200, with_key=False)
    assert quiet.best_error is None and "+-" not in str(quiet)
    assert quiet.best_value == quiet.history.values.min()
    small = run(budget=99, algorithm=RANDOM)
    assert math.isnan(small.best_error) and small.evaluations == 99
    for jit in (True, False):
        stopped = run(budget=200, algorithm=RANDOM, jit=jit, callback=lambda p: p.evaluations > 50)
        assert math.isnan(stopped.best_error) and stopped.evaluations < 60


def test_given_points_and_repeated_ones_keep_their_evaluations():
    points = [np.zeros(5)] * 98
    result = run(budget=100, algorithm=RANDOM, init_points=points)
    assert result.evaluations == 100 and np.all(result.history.points[:98] == 0)
    whole = run(budget=100, algorithm=search.resample(RANDOM, 100))
    assert whole.evaluations == 100 and math.isnan(whole.best_error)


def test_failures_at_the_best_point_are_left_out_of_its_mean():
    def fails_at_times(x, key):
        return jnp.where(jax.random.uniform(key) < 0.2, jnp.nan, noisy(x, key))

    result = run(fails_at_times, RANDOM)
    again = result.history.values[-31:]
    assert 0 < np.sum(np.isinf(again)) < 20
    np.testing.assert_allclose(result.best_value, again[np.isfinite(again)].mean(), rtol=1e-6)
    never = run(lambda x, key: jnp.nan * noisy(x, key), RANDOM, budget=200)
    assert never.best_value == math.inf and math.isnan(never.best_error)


@pytest.mark.parametrize("jit", [True, False])
def test_a_callback_sees_the_mean_at_the_end(jit):
    seen = []
    result = run(budget=400, algorithm=RANDOM, callback=seen.append, jit=jit)
    assert seen[-1].evaluations == 400 and seen[-1].best_value == result.best_value
