"""Choices among named spaces: points hold one branch, and no configuration is evaluated twice."""

import math

import jax
import numpy as np
import pytest

from tests.search.engine._helpers import run
from tests.search.spaces._helpers import sampled
from zojax import search
from zojax.search.engine import once

MODELS = {
    "svm": {
        "C": search.log_uniform(1e-3, 1e3),
        "kernel": search.choice({"rbf": {"gamma": search.log_uniform(1e-4, 1)}, "linear": {}}),
    },
    "knn": {"k": search.integers(1, 9)},
    "constant": {},
}
PIPELINE = {"model": search.choice(MODELS), "scale": search.choice([True, False])}
FINITE = {
    "model": search.choice(
        {
            "tree": {"depth": search.integers(1, 5), "split": search.choice(["gini", "entropy"])},
            "knn": {"k": search.integers(1, 9)},
            "net": {"layers": search.ordered({n: [search.integers(1, 2)] * n for n in (1, 2)})},
            "constant": {},
        }
    ),
    "scale": search.choice([True, False]),
}


def loss(p):
    """The best point is the third nearest neighbour, scaled."""
    base = 0.1 if p["scale"] else 0.5
    match p["model"]:
        case "knn", {"k": k}:
            return base + 0.05 * abs(k - 3)
        case "svm", {"C": C, "kernel": ("rbf", {"gamma": gamma})}:
            return base + 0.1 + abs(math.log(C)) / 10 + abs(math.log(gamma / 0.01)) / 10
        case "svm", {"C": C, "kernel": ("linear", {})}:
            return base + 0.3 + abs(math.log(C)) / 10
    return base + 1.0


def keys_of(points):
    rows = zip(points["model"], points["scale"].tolist(), strict=True)
    return [repr(row) for row in rows]


def test_points_hold_one_branch_as_a_pair():
    space = search.space(PIPELINE)
    seen = set()
    for x in sampled(space, 0, 60):
        name, value = model = space.point(x)["model"]
        assert model.name == name and set(value) == set(MODELS[name])
        seen.add((name, value["kernel"].name if name == "svm" else None))
    assert seen == {("svm", "rbf"), ("svm", "linear"), ("knn", None), ("constant", None)}


def test_an_inactive_coordinate_makes_no_new_point():
    space = search.space(FINITE)
    x = np.asarray(sampled(space, 1, 50), float)
    active = space.active(x)
    assert 2 <= active.sum(1).min() < active.sum(1).max() < space.dimension
    for row, moves in zip(x, active, strict=True):
        for k in range(space.dimension):
            moved = row.copy()
            moved[k] = space.low[k] if row[k] > space.low[k] else space.high[k]
            assert np.array_equal(space.clip(moved), row) == (not moves[k])
    traced = jax.jit(lambda x: (space.active(x), space.clip(x)))(x)
    for on_device, on_host in zip(traced, (active, x), strict=True):
        np.testing.assert_array_equal(on_device, on_host)


def test_sizes_count_active_configurations():
    assert search.space(FINITE).size == (5 * 2 + 9 + (2 + 4) + 1) * 2
    assert search.space(PIPELINE).size == math.inf
    assert search.choice({"a": {}, "b": search.integers(1, 10**6, (99,))}).count == 1 + 10**594
    assert len(once.all_points(search.space(FINITE))) == 52


@pytest.mark.parametrize("memory", ["listed", "hashed"])
@pytest.mark.parametrize("algorithm", [search.random_search(), search.cma_es()])
def test_no_configuration_is_evaluated_twice(algorithm, memory, monkeypatch):
    if memory == "hashed":
        monkeypatch.setattr(once, "LISTED", (0, 0))
    budget = 52 if memory == "listed" else 26
    found = search.minimize(loss, FINITE, algorithm, budget=budget, key=0)
    assert len(set(keys_of(found.history.points))) == found.evaluations == budget
    assert memory == "hashed" or found.best == {"model": ("knn", {"k": 3}), "scale": True}


@pytest.mark.parametrize("algorithm", [None, search.coordinate_reset(), search.sracos()])
def test_infinite_conditional_spaces_are_searched_without_repeats(algorithm):
    found = search.minimize(loss, PIPELINE, algorithm, budget=150, key=1)
    keys = keys_of(found.history.points)
    # The nine neighbours and the constant, scaled or not, are soon known.
    assert len(set(keys)) > 140
    assert found.best == {"model": ("knn", {"k": 3}), "scale": True}


def test_differences_are_taken_of_active_coordinates_only():
    options = {"a": search.uniform(-1, 1, (3,)), "b": search.uniform(-1, 1, (9,))}
    space = search.choice(options | {"c": search.integers(0, 9)})

    def value(model):
        name, x = model
        return {"a": 0, "b": 1, "c": 2}[name] + float(np.sum((np.asarray(x) - 0.3) ** 2))

    found = run(value, space, search.quasi_newton(), budget=14, init_points=[("a", [0, 0, 0])])
    # A difference of each of the three coordinates, and a step to the minimum of the parabola.
    assert found.best.name == "a" and found.best_value < 1e-6


def test_known_points_are_encoded():
    points = [
        {"model": ("svm", {"C": 2.0, "kernel": ("rbf", {"gamma": 0.5})}), "scale": False},
        {"model": search.Branch("constant", {}), "scale": True},
        {"model": ["knn", {"k": 3}], "scale": True},  # as JSON has it
    ]
    space = search.space(PIPELINE)
    for point in points:
        x = space.encode(point)
        np.testing.assert_allclose(space.clip(x), x)
        assert space.point(x)["model"][0] == point["model"][0]
    model = space.point(space.encode(points[0]))["model"].value
    again = model["C"], model["kernel"].name, model["kernel"].value["gamma"]
    assert again == (pytest.approx(2.0), "rbf", pytest.approx(0.5))
    random = search.random_search()
    found = search.minimize(loss, PIPELINE, random, budget=10, key=0, init_points=points)
    assert found.history.points["model"][1] == ("constant", {})
    np.testing.assert_allclose(found.history.values[:3], [loss(p) for p in points], rtol=1e-5)


def test_a_frame_has_a_column_for_each_variable():
    pytest.importorskip("pandas")
    frame = search.minimize(loss, PIPELINE, search.random_search(), budget=40, key=0).frame()
    names = "model model.knn.k model.svm.C model.svm.kernel model.svm.kernel.rbf.gamma scale"
    assert frame.columns.tolist()[:6] == names.split()
    assert (frame["model.knn.k"].notna() == (frame["model"] == "knn")).all()
    assert (frame["model.svm.C"].notna() == (frame["model"] == "svm")).all()


def test_equal_spaces_have_equal_hashes():
    a, b = search.choice(MODELS), search.choice(dict(MODELS))
    assert a == b and hash(a) == hash(b) and a != search.choice({**MODELS, "new": {}})


def test_a_space_shows_its_branches():
    text = str(search.space(PIPELINE))
    assert "'svm': {C: log_uniform(0.001, 1000), kernel: choice({'rbf': {gamma: " in text
    assert "'knn': {k: integers(1, 9)}, 'constant': {}})" in text
    shown = str(search.choice({1: search.integers(0, 3), "b": None}))
    assert shown == "choice({1: integers(0, 3), 'b': {}})"


def test_bad_branches_are_refused():
    with pytest.raises(ValueError, match="at least two options"):
        search.choice({"a": search.uniform(0, 1)})
    with pytest.raises(ValueError, match=r"shape of choice must be \(\).*list of choices"):
        search.choice(MODELS, 3)
    with pytest.raises(TypeError, match="pytree of domains.*got 1 in it") as raised:
        search.choice({"a": search.uniform(0, 1), "b": 1})
    assert "option 'b' of choice. Pass list(options)" in raised.value.__notes__[0]
    space = search.space(search.choice(MODELS))
    for bad in ("knn", ("tree", {}), {"knn": {"k": 3}}, ("knn",)):
        with pytest.raises(ValueError, match="must be a pair of a name and its point"):
            space.encode(bad)
    with pytest.raises(ValueError, match="outside the space"):
        space.encode(("knn", {"k": 12}))
    with pytest.raises(TypeError, match="no numbers.*jit=False.*lax.switch"):
        space.decode(np.zeros(space.dimension))
