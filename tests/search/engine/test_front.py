"""Searches for several objectives: the front, its volume, and every option of `minimize`."""

import pickle
import time
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zojax import search
from zojax.search.engine.front import hypervolume, in_front

pytestmark = pytest.mark.optimized

BOX = search.uniform(-1, 2, (2,))
RANDOM = np.random.default_rng(0)


def two(x):
    return float(x @ x), float((x - 1) @ (x - 1))


def traced_two(x):
    return jnp.stack([x @ x, (x - 1) @ (x - 1)])


def run(fun=two, space=BOX, algorithm=None, budget=60, **options):
    options = {"objectives": 2, "key": 0, "jit": False} | options
    return search.minimize(fun, space, algorithm, budget=budget, **options)


def test_the_front_is_that_of_the_definition():
    values = np.round(RANDOM.random((300, 3)), 1)
    values[5] = np.nan
    finite = [w for w in values if np.isfinite(w).all()]
    better = [any((w <= v).all() and (w < v).any() for w in finite) for v in values]
    expected = np.isfinite(values).all(axis=1) & ~np.array(better)
    np.testing.assert_array_equal(in_front(values), expected)
    assert 3 < sum(expected) < 100


@pytest.mark.parametrize("objectives", [2, 3, 4])
def test_the_hypervolume_is_the_share_of_random_points_that_are_dominated(objectives):
    values = RANDOM.random((12, objectives)) + 0.1
    points = 1.1 * RANDOM.random((40_000, objectives))
    dominated = (values[:, None] <= points).all(axis=2).any(axis=0).mean()
    volume = hypervolume(values, np.full(objectives, 1.1)) / 1.1**objectives
    assert abs(volume - dominated) < 5 * (dominated / 40_000) ** 0.5
    more = np.concatenate([values, np.full((1, objectives), 2.0)])  # beyond the reference
    assert hypervolume(more, np.full(objectives, 1.1)) == pytest.approx(volume * 1.1**objectives)


def test_a_cube_has_its_volume():
    values = np.array([[0.0, 0, 1], [0, 1, 0], [1, 0, 0], [0.5, 0.5, 0.5]])
    # Three boxes of 2 x 2 x 1 overlap in 3 edges of 2 and count the corner once; a half cube joins.
    assert hypervolume(values, np.full(3, 2.0)) == pytest.approx(7 + 0.125)


def test_the_history_and_the_front_hold_the_evaluations():
    result = run()
    assert result.evaluations == 60 and result.history.values.shape == (60, 2)
    again = np.array([two(x) for x in result.history.points])
    np.testing.assert_array_equal(result.history.values, again)
    np.testing.assert_array_equal(result.history.best_values, np.minimum.accumulate(again))
    kept = again[in_front(again)]
    np.testing.assert_array_equal(result.front.values, kept[np.argsort(kept[:, 0])])
    np.testing.assert_array_equal([two(x) for x in result.front.points], result.front.values)
    assert result.message == "budget spent" and result.failures == 0
    assert f"{len(kept)} points in the front" in str(result)


def test_the_host_and_the_device_see_the_same_search():
    host, device = run(), run(traced_two, jit=True)
    np.testing.assert_allclose(host.history.values, device.history.values, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(host.front.values, device.front.values, rtol=1e-4, atol=1e-5)
    assert len(device.state.points) == 20


def test_one_point_is_not_the_best():
    result = run()
    with pytest.raises(AttributeError, match="no best point: read front.points"):
        result.best  # noqa: B018
    with pytest.raises(AttributeError, match="no best value: read front.values"):
        result.best_value  # noqa: B018
    with pytest.raises(AttributeError, match="one objective has no front: read best"):
        run(lambda x: float(x @ x), algorithm=search.random_search(), objectives=1).front  # noqa: B018


def test_each_objective_has_its_own_sign():
    def worth(x):
        return float(x @ x), float(-(x - 1) @ (x - 1))

    plain, signed = run(), run(worth, maximize=(False, True))
    np.testing.assert_array_equal(signed.history.values, plain.history.values * [1, -1])
    np.testing.assert_array_equal(signed.front.values, plain.front.values * [1, -1])
    assert signed.hypervolume([3, -3]) == plain.hypervolume([3, 3]) > 0
    both = run(lambda x: [-v for v in two(x)], maximize=True)
    np.testing.assert_array_equal(both.front.values, -plain.front.values)


def test_several_runs_make_one_front():
    result, first = run(repeats=3), run()
    assert result.evaluations == len(result.history.values) == 180
    assert result.run_values.shape == (3, 2) and len(jax.tree.leaves(result.state)[0]) == 3
    assert result.hypervolume([3, 3]) > first.hypervolume([3, 3])
    together = run(traced_two, jit=True, repeats=3)
    np.testing.assert_allclose(result.history.values, together.history.values, rtol=1e-3, atol=1e-5)


def test_an_executor_evaluates_several_at_once():
    with ThreadPoolExecutor(4) as pool:
        result = run(executor=pool)
        batches = run(algorithm=search.nsga2(2, population_size=10, batch_size=10), executor=pool)
    assert result.evaluations == batches.evaluations == 60
    assert min(len(result.front.values), len(batches.front.values)) > 5


def test_a_function_of_whole_batches_returns_their_values():
    def both(x):
        return np.stack([(x**2).sum(axis=1), ((x - 1) ** 2).sum(axis=1)], axis=1)

    result = run(both, batched=True)
    again = np.array([two(x) for x in result.history.points])
    np.testing.assert_allclose(result.history.values, again, rtol=1e-12)
    assert result.evaluations == 60


def test_as_many_evaluations_are_in_flight_as_there_are_workers():
    running, most = [], []

    def slow(x):
        running.append(1)
        most.append(len(running))
        time.sleep(0.01)
        running.pop()
        return two(x)

    with ThreadPoolExecutor(3) as pool:
        run(slow, executor=pool)
    assert max(most) == 3


def test_given_points_are_in_the_front():
    points = [np.zeros(2), np.ones(2)]
    known = run(init_points=points, init_values=[(0, 2), (2, 0)])
    assert known.evaluations == 60
    for result in (known, run(init_points=points), run(traced_two, init_points=points, jit=True)):
        np.testing.assert_array_equal(result.front.values[[0, -1]], [[0, 2], [2, 0]])


def test_an_evaluation_with_one_value_that_is_not_finite_fails():
    def fails(x):
        return (float(x[0]), np.nan) if x[1] > 0.5 else two(x)

    result = run(fails)
    assert result.failures == np.isinf(result.history.values).all(axis=1).sum() > 0
    assert np.isfinite(result.front.values).all()
    with pytest.warns(UserWarning, match="fun must return 2 values, one per objective, got shape"):
        run(lambda x: two(x) if x[0] > 0 else (1, 2, 3))


def test_a_callback_sees_the_front_so_far():
    seen = []

    def callback(progress):
        seen.append(progress)
        return progress.evaluations == 40

    result = run(callback=callback)
    assert result.message == "stopped by callback" and result.evaluations == 40
    last = seen[-1]
    order = np.argsort(last.best_value[:, 0])
    np.testing.assert_array_equal(last.best_value[order], result.front.values)
    assert last.best.shape == (len(last.best_value), 2)
    seen.clear()
    device = run(traced_two, jit=True, callback=callback)
    assert device.evaluations == 40 and seen[-1].best_value.shape[1] == 2


def test_a_result_survives_pickle_and_is_a_pytree():
    result = run()
    for copy in (pickle.loads(pickle.dumps(result)), jax.tree.map(lambda x: x, result)):
        np.testing.assert_array_equal(copy.front.values, result.front.values)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"target": 1.0}, "target is for one objective, got 1.0 with 2"),
        ({"patience": 3}, "patience is for one objective, got 3 with 2"),
        ({"pruner": search.median_stopping()}, "pruner is for one objective"),
        ({"algorithm": search.sracos()}, "algorithm must take objectives = 2, got one for 1"),
        ({"maximize": (True,)}, r"maximize must be one flag, or .* objectives = 2, got \(True,\)"),
        ({"objectives": 0}, "objectives must be at least 1"),
        ({"init_points": [np.zeros(2)], "init_values": [1.0]}, "init_values must be tuples of 2"),
    ],
)
def test_what_is_for_one_objective_is_refused(options, message):
    with pytest.raises((TypeError, ValueError), match=message):
        run(**options)


def test_the_plot_shows_the_front():
    pytest.importorskip("matplotlib").use("Agg")
    result = run()
    axes = result.plot_front()
    shown = axes.collections[0].get_offsets()
    np.testing.assert_array_equal(shown, result.front.values)
    three = run(lambda x: (*two(x), float(x[0])), objectives=3)
    assert len(three.plot_front().figure.axes) == 2  # with a colour bar
    four = run(lambda x: (*two(x), *two(x - 1)), objectives=4)
    with pytest.raises(ValueError, match="plot_front shows 2 or 3 objectives, got 4"):
        four.plot_front()
    with pytest.raises(ValueError, match="one number for each of 2 objectives"):
        result.hypervolume([1, 2, 3])
