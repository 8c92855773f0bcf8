"""Values of noisy searches: fresh means with their standard errors, for answers that may be compared."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zojax import search

BOX = search.space(search.uniform(-1, 1, (5,)))
NOISE = 0.1


def truth(x):
    return float(np.sum((np.asarray(x) - 0.2) ** 2))


def noisy(x, key):
    return jnp.sum((x - 0.2) ** 2) + NOISE * jax.random.normal(key)


def run(fun=noisy, algorithm=None, budget=2000, key=0, with_key=True, **options):
    return search.minimize(
        fun, BOX, algorithm, budget=budget, key=key, with_key=with_key, **options
    )


@pytest.mark.parametrize(
    "algorithm",
    [None, search.snes(), search.sracos(), search.ssracos(), search.resample(search.sracos(), 10)],
    ids=["portfolio", "snes", "sracos", "ssracos", "resample"],
)
def test_the_value_of_a_noisy_search_is_that_of_its_point(algorithm):
    results = [run(algorithm=algorithm, key=key) for key in range(40)]
    scores = [(r.best_value - truth(r.best)) / r.best_error for r in results]
    assert np.max(np.abs(scores)) < 4
    assert abs(np.mean(scores)) < 4 / math.sqrt(40)  # no luck, no mean of a population
    np.testing.assert_allclose(
        np.mean([r.best_error for r in results]), NOISE / math.sqrt(2000 // 64), rtol=0.1
    )


@pytest.mark.parametrize("jit", [True, False])
@pytest.mark.parametrize("repeats", [1, 3])
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


@pytest.mark.parametrize("stop", [{"target": 0.1}, {"patience": 30}])
def test_host_and_device_end_with_the_same_evaluations(stop):
    device, host = (
        run(algorithm=search.sracos(), budget=300, jit=jit, **stop) for jit in (True, False)
    )
    assert device.message == host.message != "budget spent" and device.evaluations < 300
    np.testing.assert_allclose(device.history.values, host.history.values, atol=1e-5)
    np.testing.assert_allclose(device.best_value, host.best_value, atol=1e-5)
    np.testing.assert_allclose(device.best_error, host.best_error, atol=1e-5)
    assert np.all(device.history.points[-4:] == device.best)


def test_maximizing_has_the_same_error():
    least = run(budget=300, algorithm=search.snes())
    most = run(lambda x, key: -noisy(x, key), budget=300, algorithm=search.snes(), maximize=True)
    np.testing.assert_allclose(most.best_value, -least.best_value, rtol=1e-5)
    np.testing.assert_allclose(most.best_error, least.best_error, rtol=1e-5)
    assert f"best value {most.best_value:.6g} +- {most.best_error:.2g} at" in str(most)


def test_no_error_is_claimed_where_there_is_none():
    quiet = run(lambda x: jnp.sum(x**2), search.sracos(), budget=200, with_key=False)
    assert quiet.best_error is None and "+-" not in str(quiet)
    assert quiet.best_value == quiet.history.values.min()
    small = run(budget=99, algorithm=search.snes())
    assert math.isnan(small.best_error) and small.evaluations == 99
    for jit in (True, False):
        stopped = run(
            budget=200, algorithm=search.snes(), jit=jit, callback=lambda p: p.evaluations > 50
        )
        assert math.isnan(stopped.best_error) and stopped.evaluations < 60


def test_given_points_and_repeated_ones_keep_their_evaluations():
    points = [np.zeros(5)] * 98
    result = run(budget=100, algorithm=search.random_search(), init_points=points)
    assert result.evaluations == 100 and np.all(result.history.points[:98] == 0)
    whole = run(budget=100, algorithm=search.resample(search.sracos(), 100))
    assert whole.evaluations == 100 and math.isnan(whole.best_error)


def test_failures_at_the_best_point_are_left_out_of_its_mean():
    def fails_at_times(x, key):
        return jnp.where(jax.random.uniform(key) < 0.2, jnp.nan, noisy(x, key))

    result = run(fails_at_times, search.sracos())
    again = result.history.values[-31:]
    assert 0 < np.sum(np.isinf(again)) < 20
    np.testing.assert_allclose(result.best_value, again[np.isfinite(again)].mean(), rtol=1e-6)
    never = run(lambda x, key: jnp.nan * noisy(x, key), search.sracos(), budget=200)
    assert never.best_value == math.inf and math.isnan(never.best_error)


def test_a_callback_sees_the_mean_at_the_end():
    seen = []
    result = run(budget=400, algorithm=search.snes(), callback=seen.append)
    assert seen[-1].evaluations == 400 and seen[-1].best_value == result.best_value


def test_the_portfolio_answers_with_the_better_of_two_points_by_fresh_means():
    """Populations of `snes` are wide at first: their mean is far above the value of their centre."""

    def steep(x, key):
        return 100 * jnp.sum((x - 0.2) ** 2) + 5 * jax.random.normal(key)

    results = [run(steep, search.portfolio(), budget=3000, key=key) for key in range(8)]
    for result in results:
        state = result.state
        assert bool(state.noisy) and np.sum(state.counts) == 2953 // 128  # of 3000 - 46
        means = np.asarray(state.sums / state.counts)
        answer, _ = search.snes().best(state.noisy_member)
        better = answer if means[1] < means[0] else state.x
        np.testing.assert_array_equal(result.best, better)


def test_a_portfolio_by_hand_compares_its_answers_too():
    algorithm, budget = search.portfolio(), 1500

    def step(state, key):
        x, state = algorithm.ask(BOX, state)
        return algorithm.tell(BOX, state, x, noisy(x[0], key)[None]), None

    def search_once(key):
        keys = jax.random.split(jax.random.fold_in(key, 1), budget)
        return jax.lax.scan(step, algorithm.init(key, BOX, budget), keys)[0]

    state = jax.jit(search_once)(jax.random.key(0))
    x, value = algorithm.best(state)
    assert bool(state.noisy) and state.counts.tolist() == [5, 6]
    assert abs(float(value) - truth(x)) < 4 * NOISE / math.sqrt(5)
