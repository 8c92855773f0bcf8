"""`search.minimize`: budgets, ends, failures, starts, the host and the device."""

import math
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.search.engine._helpers import bowl, counted, host_bowl, run
from zojax import search


def test_history_tells_every_evaluation():
    result = run()
    assert result.evaluations == len(result.history.values) == 60
    assert result.history.points.shape == (60, 3)
    again = [host_bowl(x) for x in result.history.points]
    np.testing.assert_allclose(result.history.values, again, rtol=1e-5)
    best = np.minimum.accumulate(result.history.values)
    np.testing.assert_array_equal(result.history.best_values, best)
    assert result.best_value == result.history.values.min()
    assert result.message == "budget spent" and result.failures == 0


def test_the_host_sees_the_same_search():
    device, host = run(), run(host_bowl, jit=False)
    assert host.evaluations == 60
    np.testing.assert_allclose(host.history.values, device.history.values, rtol=1e-5)
    assert device.best_value < 0.05


@pytest.mark.parametrize("jit", [True, False])
def test_the_budget_is_exact_also_for_batches(jit):
    fun, calls = counted()
    result = run(bowl if jit else fun, algorithm=search.random_search(7), budget=24, jit=jit)
    assert result.evaluations == len(result.history.values) == 24
    assert np.isfinite(result.history.values).all()
    if not jit:
        assert len(calls) == 24


def test_what_python_computes_is_called_on_the_host():
    seen = []

    def fun(p):
        seen.append(p)
        return abs(p["n"] - 3) + (p["name"] != "b") + math.sin(p["x"])

    space = {"n": search.integers(0, 9), "x": search.uniform(-1.5, 0)}
    result = run(fun, space | {"name": search.choice(["a", "b"])}, budget=80)
    assert len(seen) == 80
    assert isinstance(seen[0]["n"], int) and isinstance(seen[0]["x"], float)
    assert result.best["name"] == "b" and result.best["n"] == 3


def test_failures_count_as_inf_and_are_reported():
    def fails(x):
        if x[0] > 0:
            raise RuntimeError("diverged")
        return host_bowl(x)

    with pytest.warns(UserWarning, match="diverged"):
        result = run(fails)
    assert result.failures == np.isinf(result.history.values).sum() > 0
    assert result.best[0] <= 0 and np.isfinite(result.best_value)


@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf, -jnp.inf])
def test_values_that_are_not_finite_never_win(bad):
    result = run(lambda x: jnp.where(x[0] > 0, bad, bowl(x)))
    assert result.failures > 0
    assert result.best[0] <= 0 and np.isfinite(result.best_value)


def test_when_everything_fails_it_says_so():
    result = run(lambda x: jnp.nan * bowl(x))
    assert result.failures == 60 and "no evaluation succeeded" in result.message
    assert np.all(np.abs(result.best) <= 1)


def test_maximize():
    result = run(lambda x: -bowl(x), maximize=True)
    np.testing.assert_allclose(result.best_value, -run().best_value, rtol=1e-6)
    assert np.all(np.diff(result.history.best_values) >= 0)


@pytest.mark.parametrize("fun", [bowl, host_bowl])
def test_target_and_patience_end_a_run(fun):
    reached = run(fun, budget=500, target=0.05)
    assert reached.message == "target reached"
    assert reached.history.values[-1] <= 0.05 < reached.history.values[:-1].min()
    tired = run(fun, budget=500, patience=20)
    assert "no improvement for 20" in tired.message
    best = np.argmin(tired.history.values)
    assert len(tired.history.values) - 1 - best == 20


def test_time_budget_callback_and_progress(capsys):
    result = run(host_bowl, time_budget=1e-9)
    assert result.evaluations == 1 and "time budget" in result.message
    seen = []
    stopped = run(callback=lambda p: seen.append(p) or p.evaluations >= 30, progress=True)
    assert stopped.message == "stopped by callback" and stopped.evaluations == 30
    assert seen[-1].best_value == stopped.best_value
    shown = capsys.readouterr().err
    assert "30/60" in shown and "best=" in shown
    assert shown.count("30/60") <= 2  # not one line for every evaluation
    assert str(stopped).count("\n") == 1 and "30 evaluations: stopped by callback" in str(stopped)


def test_init_points_come_first_and_known_values_are_free():
    start = [np.array([0.3, 0.3, 0.25], np.float32), np.zeros(3, np.float32)]
    counted = run(init_points=start)
    np.testing.assert_allclose(counted.history.points[:2], start)
    assert counted.evaluations == 60 and counted.best_value <= 0.0025 + 1e-6
    free = run(init_points=start, init_values=[0.0025, 0.27], budget=1)
    assert free.evaluations == 1 and free.best_value <= 0.0026


def test_runs_side_by_side_equal_runs_alone():
    together = run(repeats=3)
    assert together.evaluations == 180 and together.run_values.shape == (3,)
    assert together.best_value == together.run_values.min()
    assert len(set(together.run_values.tolist())) == 3
    stops = run(repeats=3, budget=500, target=0.05)
    assert np.all(stops.run_values <= 0.05)


def test_same_key_same_search():
    for fun in (bowl, host_bowl):
        first, second = run(fun, key=0), run(fun, key=0)
        np.testing.assert_array_equal(first.history.values, second.history.values)
        other = run(fun, key=1)
        assert not np.array_equal(first.history.values, other.history.values)


@pytest.mark.parametrize("jit", [True, False])
def test_small_spaces_end_when_they_are_exhausted(jit):
    space = {"a": search.integers(1, 5), "b": search.choice([1.0, 2.0])}
    fun = lambda p: (p["a"] - 3) ** 2 + p["b"]  # noqa: E731
    result = run(fun, space, search.sracos(), budget=100, jit=jit)
    assert result.message == "space exhausted: it has 10 points"
    points = result.history.points
    distinct = set(zip(points["a"].tolist(), points["b"].tolist(), strict=True))
    assert result.evaluations == len(distinct) == 10
    assert result.best_value == 1


A, B, C = search.integers(0, 99), search.choice(range(100)), search.log_integers(1, 99)
MANY = {"a": A, "b": B, "c": C}


@pytest.mark.parametrize("jit", [True, False])
@pytest.mark.parametrize("algorithm", [search.sracos(), search.random_search(4)])
def test_a_finite_space_is_searched_without_repeats(algorithm, jit):
    def distance(p):
        return abs(p["a"] - 30) + abs(p["b"] - 50) + abs(p["c"] - 40) + 0.0

    result = search.minimize(distance, MANY, algorithm, budget=600, key=0, jit=jit)
    rows = np.stack([np.asarray(result.history.points[name], int) for name in "abc"], axis=1)
    assert len(np.unique(rows, axis=0)) > 597  # a hash may mistake a point, a walk may end
    assert algorithm.best(result.state)[1] == result.best_value  # the state is the algorithm's own
    assert result.message == "budget spent"


def test_integers_that_float32_does_not_tell_apart_are_not_taken_for_seen():
    with jax.enable_x64(True):
        t = jnp.array([100_000_001, 99_999_999])
        space, algorithm = search.integers(0, 2**28, (2,)), search.coordinate_search()
        found = run(lambda n: jnp.sum(jnp.abs(n - t)), space, algorithm, budget=600)
    assert found.best_value == 0


def test_a_space_that_the_budget_covers_is_exhausted():
    space = search.integers(0, 5999)
    result = run(lambda x: abs(x - 77.0), space, search.sracos(), budget=8000)
    assert result.evaluations == 6000 and result.message.startswith("space exhausted")
    assert len(np.unique(result.history.points)) == 6000


def test_noisy_functions_of_few_points_repeat_them():
    def noisy(n, key):
        return abs(n - 4) + jax.random.normal(key)

    result = run(noisy, search.integers(0, 9), budget=200, with_key=True)
    assert result.evaluations == 200 and result.message == "budget spent"


def test_keys_reach_noisy_functions():
    values = run(lambda x, key: jax.random.normal(key), with_key=True, budget=400).history.values
    assert abs(values.mean()) < 5 / 20 and abs(values.std() - 1) < 5 / math.sqrt(800)


def test_arguments_are_passed_on_without_compiling_again():
    traces = []

    def fun(x, shift):
        traces.append(1)
        return jnp.sum((x - shift) ** 2)

    best = [run(fun, args=(shift,), budget=300).best.mean() for shift in (0.0, 0.5)]
    once = len(traces)
    run(fun, args=(0.7,), budget=300)
    assert len(traces) == once
    np.testing.assert_allclose(best, [0, 0.5], atol=0.1)


def test_an_executor_evaluates_batches_at_once():
    barrier = threading.Barrier(4, timeout=20)

    def together(x):
        barrier.wait()  # passes only when four evaluations run at once
        return host_bowl(x)

    with ThreadPoolExecutor(4) as executor:
        result = run(together, algorithm=search.random_search(4), budget=16, executor=executor)
    assert result.evaluations == 16 and result.failures == 0


def test_an_executor_alone_runs_several_evaluations_at_once():
    barrier = threading.Barrier(2, timeout=20)

    def together(x):
        barrier.wait()
        return host_bowl(x)

    with ThreadPoolExecutor(4) as executor:
        result = run(together, algorithm=None, budget=16, executor=executor)
    assert result.evaluations == 16 and result.failures == 0


def test_an_executor_without_work_is_reported():
    with ThreadPoolExecutor(1) as executor, pytest.warns(UserWarning, match="one evaluation"):
        result = run(host_bowl, algorithm=search.sracos(), budget=5, executor=executor)
    assert result.evaluations == 5


def test_plot(tmp_path):
    import matplotlib

    matplotlib.use("Agg")
    ax = run().plot()
    ax.figure.savefig(tmp_path / "search.png")
    assert (tmp_path / "search.png").stat().st_size > 5000


@pytest.mark.parametrize(
    "options, message",
    [
        ({"budget": 0}, "budget must be at least 1, got 0"),
        ({"repeats": 0}, "repeats must be at least 1"),
        ({"target": math.nan}, "target must be finite"),
        ({"time_budget": -1.0}, "positive seconds, got -1"),
        ({"init_points": [np.zeros(3)], "init_values": [1, 2]}, "one value for each of the 1"),
        ({"init_points": [np.zeros(3)] * 3, "budget": 2}, "budget must cover the 3"),
        ({"init_points": [np.full(3, 7.0)]}, "outside the space"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        run(**options)


def test_an_algorithm_must_be_one():
    with pytest.raises(TypeError, match="such as sracos"):
        run(algorithm="sracos")


def test_a_history_is_pickled_with_its_points():
    space = {"x": search.uniform(0, 1, (2,)), "n": search.integers(1, 5)}
    result = run(lambda p: p["x"].sum() + p["n"], space, budget=40)
    again = pickle.loads(pickle.dumps(result.history))
    assert again.points["x"].shape == (40, 2) and set(again.points["n"]) <= {1, 2, 3, 4, 5}
    np.testing.assert_array_equal(again.points["x"], result.history.points["x"])
    expected = again.points["x"].sum(1) + again.points["n"]
    np.testing.assert_allclose(again.values, expected, rtol=1e-6)


def test_a_search_on_the_host_follows_the_precision_of_the_function():
    space, algorithm = search.uniform(-1, 1, (3,)), search.coordinate_search()

    def run(fun):
        return search.minimize(fun, space, algorithm, budget=20, key=0).state.x.dtype

    def traced(x):
        return jnp.sum(x**2)

    def plain(x):
        return float(np.sum(np.square(x)))

    assert run(traced) == np.float32 and run(plain) == np.float64
    with jax.enable_x64(True):
        assert run(traced) == run(plain) == np.float64
    assert run(traced) == np.float32


def test_searches_on_the_host_compile_nothing():
    compiled = []

    def listen(event, seconds, **names):
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(names.get("fun_name"))

    run_on_host = partial(search.minimize, jit=False)
    run_on_host(host_bowl, search.uniform(-1, 1, (2,)), budget=3, key=0)  # the key's program
    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        for low in -3, -2:
            for budget in 20, 101:
                space = {"x": search.uniform(low, 1, (3,)), "n": search.integers(low, 2)}
                run_on_host(lambda p: host_bowl(p["x"]) + p["n"], space, budget=budget, key=0)
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    assert compiled == []


def test_a_history_is_a_pytree_and_keeps_no_room_that_was_not_used():
    space = search.uniform(-1, 1, (64,))
    result = run(jnp.sum, space, search.random_search(), budget=5000, target=100.0)
    assert len(result.history.values) == 1 and result.history._points.rows.nbytes == 64 * 4
    assert result.history._points.rows.base is None
    doubled = jax.tree.map(lambda x: 2 * np.asarray(x), result.history)
    np.testing.assert_array_equal(doubled.points, 2 * result.history.points)
    assert isinstance(doubled, search.History)


def test_a_users_algorithm_may_have_pythons_numbers_in_its_state():
    algorithm = search.Algorithm(
        init=lambda key, space, budget: {"x": jnp.zeros(2), "value": jnp.inf, "n": 0},
        ask=lambda space, state: (state["x"][None], state),
        tell=lambda space, state, x, values: dict(state, value=values[0]),
        best=lambda state: (state["x"], state["value"]),
        inject=lambda space, state, x, value: dict(state, n=1),
    )
    result = search.minimize(
        *(lambda x: float(np.sum(x)), search.uniform(-1, 1, (2,)), algorithm),
        **{"budget": 3, "key": 0, "init_points": [np.zeros(2)], "jit": False},
    )
    assert result.best_value == 0 and result.state["n"] == 1
