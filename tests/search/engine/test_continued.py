"""Keys that are drawn, searches without a budget, starts with gaps, and searches that go on."""

import pickle

import jax
import numpy as np
import pytest

from tests.search.engine._helpers import RESET, bowl, host_bowl, run
from zojax import search

SPACE = {
    "x": search.uniform(-1, 1, (2,)),
    "net": {"n": search.integers(0, 9), "act": search.choice([None, "relu"])},
}


def mixed(p):
    return float(np.sum(p["x"] ** 2)) + p["net"]["n"] + (p["net"]["act"] is None)


@pytest.mark.parametrize("fun, jit", [(bowl, True), (host_bowl, False)])
def test_a_search_without_a_key_can_be_repeated(fun, jit):
    first, second = run(fun, key=None, jit=jit), run(fun, key=None, jit=jit)
    assert isinstance(first.key, int) and first.key != second.key
    assert f"(key {first.key})" in str(first)
    again = run(fun, key=first.key, jit=jit)
    np.testing.assert_array_equal(again.history.values, first.history.values)


# --- without a budget -----------------------------------------------------------------------------


@pytest.mark.parametrize("fun, jit", [(bowl, True), (host_bowl, False)])
def test_a_target_or_patience_ends_a_search_without_a_budget(fun, jit):
    known = run(fun, budget=None, target=1e-3, jit=jit)
    assert known.message == "target reached" and known.best_value <= 1e-3
    patient = run(fun, budget=None, patience=500, jit=jit)
    assert patient.message == "no improvement for 500 evaluations"
    assert np.all(np.diff(patient.history.best_values[-500:]) == 0)
    assert (patient.history.points is None) == jit  # the length of a compiled history is unknown


def test_time_ends_a_search_without_a_budget():
    result = run(host_bowl, budget=None, time_budget=0.3, jit=False)
    assert result.message == "time budget of 0.3 s spent" and result.evaluations > 60
    assert len(result.history.points) == result.evaluations
    compiled = run(bowl, budget=None, time_budget=1.0)
    assert compiled.message == "time budget of 1 s spent" and compiled.evaluations >= 16


def test_a_small_space_ends_a_search_without_a_budget():
    result = run(abs, search.integers(-3, 3), budget=None, patience=100)
    assert result.best == 0 and result.evaluations == 7 and "exhausted" in result.message


def test_something_must_end_a_search():
    message = "budget must be given, or one of time_budget, target, patience"
    with pytest.raises(ValueError, match=message):
        run(budget=None)


# --- starts with gaps -----------------------------------------------------------------------------


def test_missing_leaves_of_starts_are_drawn():
    starts = [
        {"net": {"n": 3}},
        {"x": None, "net": {"n": 4, "act": None}},
        {"x": [0.5, -0.5], "net": None},
        None,
        {"x": [0.5, 0.25], "net": {"n": 1, "act": "relu"}},
    ]
    result = run(mixed, SPACE, search.sracos(), jit=False, init_points=starts)
    points = result.history.points
    assert points["net"]["n"][[0, 1, 4]].tolist() == [3, 4, 1]
    assert points["net"]["act"][1] is None  # an option
    np.testing.assert_array_equal(points["x"][[2, 4]], [[0.5, -0.5], [0.5, 0.25]])
    assert len(np.unique(points["x"][:4, 0])) == 4  # each draw is another one
    again = run(mixed, SPACE, search.sracos(), jit=False, init_points=starts)
    np.testing.assert_array_equal(again.history.values, result.history.values)
    other = run(mixed, SPACE, search.sracos(), jit=False, init_points=starts, key=1)
    assert other.history.points["x"][0, 0] != points["x"][0, 0]


def test_a_value_belongs_to_a_whole_point():
    with pytest.raises(ValueError, match="init_points with init_values must have all leaves"):
        run(mixed, SPACE, jit=False, init_points=[{"net": {"n": 3}}], init_values=[1.0])
    with pytest.raises(ValueError, match="does not have the structure"):
        run(mixed, SPACE, jit=False, init_points=[{"net": {"m": 3}}])


# --- searches that go on --------------------------------------------------------------------------


@pytest.mark.parametrize("fun, jit", [(bowl, True), (host_bowl, False)])
@pytest.mark.parametrize("repeats", [1, 3])
def test_a_search_that_goes_on_asks_for_the_points_of_a_longer_one(fun, jit, repeats):
    options = {"jit": jit, "repeats": repeats}
    whole = run(fun, budget=60, **options)
    first = run(fun, budget=20, **options)
    state = pickle.loads(pickle.dumps(jax.tree.map(np.asarray, first.search_state)))
    second = run(fun, budget=40, state=state, **options)
    assert state.evaluations == 20 and second.search_state.evaluations == 60
    assert second.evaluations == 40 * repeats
    np.testing.assert_array_equal(second.run_values, whole.run_values)
    if repeats == 1:
        both = np.concatenate([first.history.values, second.history.values])
        np.testing.assert_array_equal(both, whole.history.values)


def test_a_search_that_goes_on_keeps_its_best_point():
    first = run(host_bowl, jit=False)
    worse = run(lambda x: host_bowl(x) + 10, jit=False, budget=5, state=first.search_state)
    assert worse.best_value == first.best_value and host_bowl(worse.best) == first.best_value
    known = run(host_bowl, jit=False, target=1.0, state=first.search_state)
    assert known.message == "target reached" and known.evaluations == 0


def test_a_search_that_goes_on_may_change_sides():
    host = run(host_bowl, jit=False, budget=20)
    device = run(bowl, budget=40, state=host.search_state)
    whole = run(bowl, budget=60)
    np.testing.assert_allclose(device.history.values, whole.history.values[20:], rtol=1e-4)


@pytest.mark.parametrize("jit", [True, False])
def test_a_search_that_goes_on_repeats_no_point_of_a_small_space(jit):
    def fun(n):
        return abs(n - 3) * 1.0

    options = {"space": search.integers(0, 19), "algorithm": search.sracos(), "jit": jit}
    first = run(fun, budget=12, **options)
    second = run(fun, budget=50, state=first.search_state, **options)
    assert second.evaluations == 8 and "exhausted" in second.message
    points = [*first.history.points, *second.history.points]
    assert sorted(points) == list(range(20))


def test_noise_of_a_search_that_goes_on_is_new():
    def noisy(x, key):
        return bowl(x) + jax.random.normal(key)

    start = {"init_points": [np.zeros(3)], "with_key": True, "budget": 2}
    first = run(noisy, **start)
    second = run(noisy, **start, state=first.search_state)
    third = run(noisy, **start, state=second.search_state)
    values = [r.history.values[0] for r in (first, second, third)]
    assert len(set(values)) == 3
    again = run(noisy, **start, state=first.search_state)
    assert again.history.values[0] == values[1]


def test_a_state_of_another_search_is_refused():
    state = run(budget=20).search_state
    other = {"space": search.uniform(-1, 1, (4,))}
    for changed in (other, {"algorithm": search.sracos()}, {"repeats": 2}):
        with pytest.raises(ValueError, match="state must come from a search of the same space"):
            run(state=state, **changed)
    with pytest.raises(TypeError, match="state must be the search_state of a result"):
        run(state=run(budget=20).state)


def test_algorithms_have_names_that_tell_them_apart():
    assert search.sracos().name == search.sracos(exploration=0.01).name == "sracos()"
    assert search.cma_es(noisy=True).name == "cma_es(noisy=True)"
    inner = search.resample(search.sracos(parity=True), times=3)
    assert inner.name == "resample(algorithm=sracos(parity=True), times=3)"
    both = search.portfolio(RESET, search.sracos())
    assert both.name == "portfolio(coordinate_reset(), sracos())"
