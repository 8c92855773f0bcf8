"""`search.ask_tell`: the search of `minimize`, with the loop outside."""

import pickle

import numpy as np
import pytest

from zojax import search

SPACE = {"x": search.uniform(-1, 1, (2,)), "kind": search.choice(["a", "b"])}


def fun(p):
    return float(np.sum((p["x"] - 0.3) ** 2)) + (p["kind"] == "a")


def told(tuner, state, count, fun=fun):
    points = []
    for _ in range(count):
        candidate, state = tuner.ask(state)
        state = tuner.tell(state, candidate, fun(candidate.point))
        points.append(candidate.point)
    return points, state


@pytest.mark.parametrize("algorithm", [search.sracos(), search.random_search(7)])
def test_it_is_the_search_of_minimize(algorithm):
    tuner = search.ask_tell(SPACE, algorithm, budget=49, key=3)
    points, state = told(tuner, tuner.init(), 49)
    result = search.minimize(fun, SPACE, algorithm, budget=49, key=3, jit=False)
    np.testing.assert_array_equal([p["x"] for p in points], result.history.points["x"])
    best, value = tuner.best(state)
    assert value == result.best_value == fun(best)
    assert best["kind"] == result.best["kind"]


def test_a_state_goes_on_after_pickle_and_is_not_changed():
    tuner = search.ask_tell(SPACE, search.sracos(), budget=30, key=0)
    _, state = told(tuner, tuner.init(), 12)
    copy = pickle.loads(pickle.dumps(state))
    straight = told(tuner, state, 8)[0]
    again = told(search.ask_tell(SPACE, search.sracos(), budget=30, key=0), copy, 8)[0]
    once_more = told(tuner, state, 8)[0]
    for other in (again, once_more):
        np.testing.assert_array_equal([p["x"] for p in straight], [p["x"] for p in other])


@pytest.mark.parametrize("algorithm", [search.asracos(in_flight=3), search.sracos()])
def test_candidates_are_told_in_any_order(algorithm):
    tuner = search.ask_tell(SPACE, algorithm, budget=60, key=0)
    state, random = tuner.init(), 0
    for _ in range(10):
        opened = []
        for _ in range(5):
            candidate, state = tuner.ask(state)
            opened.append(candidate)
        random += sum(candidate.place is None for candidate in opened)
        for candidate in reversed(opened):
            state = tuner.tell(state, candidate, fun(candidate.point))
    assert random == 10 * (5 - algorithm.in_flight)  # beyond those that the algorithm has open
    assert not state.batches and tuner.best(state)[1] < 0.5


def test_a_batch_is_told_when_it_is_complete():
    tuner = search.ask_tell(SPACE, search.random_search(3), budget=60, key=0)
    (first, state), opened = tuner.ask(tuner.init()), []
    for _ in range(4):
        candidate, state = tuner.ask(state)
        opened.append(candidate)
    assert [c.place for c in opened] == [(0, 1), (0, 2), None, None]
    for candidate in opened:
        state = tuner.tell(state, candidate, fun(candidate.point))
    assert len(state.batches) == 1
    state = tuner.tell(state, first, np.nan)  # a failure completes it
    assert not state.batches
    assert tuner.best(state)[1] == min(fun(c.point) for c in opened)
    with pytest.raises(ValueError, match="candidate must be open"):
        tuner.tell(state, first, 1.0)


def test_points_from_elsewhere_and_signs():
    tuner = search.ask_tell(SPACE, search.sracos(), budget=20, key=0, maximize=True)
    point = {"x": np.array([0.1, 0.2]), "kind": "b"}
    state = tuner.inject(tuner.init(), point, 7.0)
    best, value = tuner.best(told(tuner, state, 5, lambda p: -fun(p))[1])
    assert value == 7 and best["kind"] == "b"
    np.testing.assert_array_equal(best["x"], point["x"])
    with pytest.raises(ValueError, match="outside the space"):
        tuner.inject(state, point | {"x": np.array([5.0, 0])}, 0.0)


def test_several_objectives_have_a_front():
    options = {"budget": 100, "objectives": 2, "maximize": (False, True)}
    tuner = search.ask_tell(search.uniform(-1, 2), key=0, **options)
    state = told(tuner, tuner.init(), 60, lambda x: (x**2, -((x - 1) ** 2)))[1]
    front = tuner.best(state)
    assert front.maximize == (False, True) and len(front.values) > 3
    np.testing.assert_allclose(front.values[:, 0], front.points**2, rtol=1e-5)


def test_a_small_space_goes_on_after_its_last_point():
    tuner = search.ask_tell(search.integers(0, 3), search.random_search(), budget=9, key=0)
    points, _ = told(tuner, tuner.init(), 9, float)
    assert sorted(points[:4]) == [0, 1, 2, 3]
