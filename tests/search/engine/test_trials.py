"""Trials: what callbacks, tables and results say of single evaluations; batches of points."""

import math
import time
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.search.engine._helpers import bowl, counted, host_bowl, run
from zojax import search

SPACE = {"x": search.uniform(-1, 1, (2,)), "kind": search.choice(["a", "b"])}


def fails_for_b(p):
    if p["kind"] == "b":
        raise RuntimeError("no b")
    time.sleep(0.002)
    return float(p["x"][0]), {"norm": float(np.linalg.norm(p["x"])), "kind": p["kind"]}


def trials_of(fun=fails_for_b, **options):
    seen = []
    options = {"budget": 20, "has_aux": True, "algorithm": search.random_search()} | options
    return run(fun, SPACE, callback=lambda p: seen.append(p.trial), **options), seen


@pytest.mark.filterwarnings("ignore:an evaluation failed")
@pytest.mark.parametrize("maximize", [False, True])
def test_the_callback_sees_each_trial(maximize):
    result, seen = trials_of(maximize=maximize)
    assert len(seen) == 20 and {t.point["kind"] for t in seen} == {"a", "b"}
    for i, trial in enumerate(seen):
        assert trial.value == result.history.values[i]
        assert trial.seconds == result.history.seconds[i]
        np.testing.assert_array_equal(trial.point["x"], result.history.points["x"][i])
        if trial.point["kind"] == "b":
            assert trial.error == "RuntimeError: no b" == result.history.errors[i]
            assert trial.value == (-math.inf if maximize else math.inf) and trial.attributes is None
            assert 0 <= trial.seconds < 0.1
        else:
            assert trial.error is None and trial.value == trial.point["x"][0]
            assert trial.attributes == {"norm": np.linalg.norm(trial.point["x"]), "kind": "a"}
            assert trial.seconds >= 0.002
        assert not trial.replayed and trial.attributes is result.history.attributes[i]


@pytest.mark.filterwarnings("ignore:an evaluation failed")
def test_workers_measure_their_own_time():
    with ThreadPoolExecutor(4) as pool:
        result, seen = trials_of(executor=pool, algorithm=search.asracos(in_flight=4))
    assert all(0 <= trial.seconds < 1 for trial in seen) and result.failures


def test_a_compiled_search_has_no_trials():
    seen = []
    result = run(bowl, jit=True, callback=lambda p: seen.append(p.trial))
    assert seen and set(seen) == {None}
    assert np.isnan(result.history.seconds).all() and len(result.history.seconds) == 60
    assert result.history.attributes is None and result.history.errors == {}


@pytest.mark.filterwarnings("ignore:an evaluation failed")
def test_a_frame_has_one_row_an_evaluation():
    result, _ = trials_of()
    frame = result.frame()
    names = ["kind", "x[0]", "x[1]", "value", "best", "seconds", "failed"]
    assert frame.columns.tolist() == [*names, "attributes.kind", "attributes.norm"]
    assert len(frame) == 20 and frame["failed"].sum() == result.failures > 0
    np.testing.assert_array_equal(frame["x[1]"], result.history.points["x"][:, 1])
    np.testing.assert_array_equal(frame["best"], result.history.best_values)
    assert (frame["attributes.kind"].isna() == frame["failed"]).all()
    compiled = run(bowl, jit=True).frame()
    assert compiled.columns.tolist() == ["x[0]", "x[1]", "x[2]", *names[3:]]


def test_a_frame_tells_coordinates_from_its_own_columns():
    space = {"value": search.uniform(0, 1), "lr": search.uniform(0, 1)}
    frame = run(lambda p: p["value"], space, budget=5, jit=False).frame()
    assert frame.columns[:3].tolist() == ["point.lr", "point.value", "value"]


def test_a_frame_without_pandas_names_the_remedy(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pandas", None)
    with pytest.raises(ImportError, match="needs pandas: pip install pandas"):
        run(budget=3).frame()


@pytest.mark.filterwarnings("ignore:an evaluation failed")
def test_attributes_that_are_missing_are_named():
    with pytest.raises(TypeError, match=r"fun must return \(value, attributes\) with has_aux=True"):
        run(host_bowl, has_aux=True)
    with pytest.raises(ValueError, match="has_aux is for functions on the host"):
        run(lambda x: (bowl(x), {}), has_aux=True, jit=True)


# --- batches --------------------------------------------------------------------------------------


def simulated(x):
    """Values of points (n, 3)."""
    return np.sum((x - 0.3) ** 2, axis=1)


def test_a_batched_function_gets_the_points_of_each_ask():
    fun, calls = counted(simulated)
    options = {"algorithm": search.random_search(7), "budget": 24}
    start = list(np.linspace(-1, 1, 9).reshape(3, 3))
    result = run(fun, batched=True, init_points=start, **options)
    assert [len(x) for x in calls] == [3, 7, 7, 7]
    alone = run(host_bowl, jit=False, init_points=start, **options)
    np.testing.assert_allclose(result.history.values, alone.history.values, rtol=1e-6)
    calls.clear()
    run(fun, batched=True, algorithm=None)
    assert {len(x) for x in calls} == {7, 60 % 7}


@pytest.mark.parametrize("aux", ["list", "tree"])
def test_attributes_of_a_batch(aux):
    def fun(x):
        values = simulated(x)
        return values, [{"v": v} for v in values] if aux == "list" else {"v": values}

    result = run(fun, algorithm=search.random_search(7), batched=True, has_aux=True)
    assert [a["v"] for a in result.history.attributes] == result.history.values.tolist()


def test_keys_of_a_batch_are_those_of_single_evaluations():
    def noisy(x, key):
        return bowl(x) + 0.01 * jax.random.normal(key)

    def batched(x, key):
        return np.asarray(jax.vmap(noisy)(jnp.asarray(x), key))

    options = {"algorithm": search.random_search(4), "budget": 8, "with_key": True}
    both = run(batched, batched=True, **options), run(noisy, jit=False, **options)
    np.testing.assert_allclose(both[0].history.values, both[1].history.values, rtol=1e-5)


def test_a_batch_fails_as_a_whole():
    calls = []

    def fails_once(x):
        calls.append(1)
        if len(calls) == 2:
            raise RuntimeError("out of memory")
        return simulated(x)

    with pytest.warns(UserWarning, match="out of memory"):
        result = run(fails_once, algorithm=search.random_search(5), batched=True, budget=20)
    assert result.failures == 5 and len(calls) == 4


@pytest.mark.filterwarnings("ignore:an evaluation failed")
@pytest.mark.parametrize(
    "fun, message",
    [
        (lambda x: 1.0, r"values of shape \(7,\) for 7 points with batched=True, got shape \(\)"),
        (lambda x: np.zeros((7, 1)), r"got shape \(7, 1\)"),
    ],
)
def test_what_a_batched_function_must_return(fun, message):
    with pytest.raises(ValueError, match=message):
        run(fun, algorithm=search.random_search(7), batched=True)


def test_batches_are_one_call():
    with (
        ThreadPoolExecutor(2) as pool,
        pytest.raises(ValueError, match="batched and executor excl"),
    ):
        run(simulated, batched=True, executor=pool)
    with pytest.warns(UserWarning, match="batched gets one point at a time"):
        run(simulated, algorithm=search.sracos(), batched=True, budget=5)


def test_a_target_within_a_batch_loses_no_evaluation():
    fun, calls = counted(simulated)
    result = run(fun, algorithm=search.random_search(20), batched=True, target=3.0)
    assert result.message == "target reached" and result.evaluations == len(*calls) == 20
