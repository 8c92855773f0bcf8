"""Pictures of searches, and the importance of variables."""

import math
import pickle

import numpy as np
import pytest

from tests.search.engine._helpers import host_bowl, run
from zojax import search
from zojax.search.engine.columns import Column, columns_of
from zojax.search.engine.importance import importance_of

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")

RANDOM = search.random_search()
SPACE = {
    "rate": search.log_uniform(1e-4, 1),
    "width": search.integers(1, 9),
    "idle": search.uniform(-1, 1),
    "model": search.choice({"a": search.uniform(0, 1), "b": {"k": search.choice(["x", "y"])}}),
}


def loss(p):
    if p["idle"] > 0.95:
        return math.nan
    name, value = p["model"]
    return abs(math.log10(p["rate"]) + 2) + p["width"] / 9 + (value if name == "a" else 0.5)


def found(**options):
    return search.minimize(loss, SPACE, RANDOM, budget=120, key=0, **options)


def host_runs(key, budget, **options):
    return run(host_bowl, algorithm=RANDOM, budget=budget, key=key, jit=False, **options)


def test_several_runs_are_a_median_and_a_band():
    result = host_runs(0, 30, repeats=5)
    assert [len(h.values) for h in result.runs] == [30] * 5
    assert min(h.best_values[-1] for h in result.runs) == result.best_value
    ax = result.plot()
    line = ax.lines[0].get_ydata()
    np.testing.assert_allclose(line, np.median([h.best_values for h in result.runs], axis=0))
    band = ax.collections[0].get_paths()[0].vertices[:, 1]
    texts = [t.get_text() for t in ax.get_legend().texts]
    assert band.min() < line.min() and texts == ["median", "middle half of the runs"]


def test_a_history_of_several_results_has_a_line_each():
    early = [host_runs(0, 30), host_runs(1, 10)]  # the second one keeps its best value
    ax = search.plot_history({"two": early, "one": host_runs(2, 20)})
    two, one = (line.get_ydata() for line in ax.lines)
    assert [line.get_label() for line in ax.lines] == ["two", "one"] and len(ax.collections) == 1
    ends = [result.history.best_values[-1] for result in early]
    assert two[-1] == pytest.approx(np.mean(ends)) and len(two) == 30 and len(one) == 20
    assert search.plot_history(early, ax=ax) is ax
    for nothing in ({}, []):
        with pytest.raises(ValueError, match="must hold"):
            search.plot_history(nothing)


def test_a_run_is_plotted_as_before():
    ax = run().plot()
    assert [line.get_label() for line in ax.lines] == ["value", "best so far"]


@pytest.mark.parametrize("sign", [1, -1])
def test_parallel_coordinates_show_every_evaluation_with_the_best_on_top(sign):
    values = {1: loss, -1: lambda p: -loss(p)}
    result = search.minimize(
        values[sign], SPACE, RANDOM, budget=60, key=0, maximize=sign < 0, jit=False
    )
    assert result.failures > 0
    ax = result.plot_parallel()
    (lines,) = ax.collections
    labels = [t.get_text().replace("\n", "") for t in ax.get_xticklabels()]
    assert labels == ["idle", "model", "model.a", "model.b.k", "rate", "width", "value"]
    heights = np.stack([s[:, 1] for s in lines.get_segments()])
    assert heights.shape == (60 - result.failures, 7)
    assert np.all(np.diff(sign * heights[:, -1]) <= 0)
    name, a, k = heights[:, 1:4].T
    assert np.all((a >= 0) == (name == 0)) and np.all((k >= 0) == (name == 1))
    x = np.log(result.history.points["rate"][np.isfinite(result.history.values)])
    expected = np.sort((x - x.min()) / np.ptp(x))
    np.testing.assert_allclose(np.sort(heights[:, 4]), expected, atol=1e-9)
    texts = {t.get_text() for t in ax.texts}
    assert {"a", "b", "x", "y", "absent"} <= texts


def test_importance_finds_the_variables_that_matter():
    shares = found().importance()
    assert list(shares)[0] == "rate" and shares["rate"] > 0.4
    assert shares["rate"] > shares["width"] > shares["idle"]
    ax = found().plot_importance()
    assert [t.get_text() for t in ax.get_yticklabels()] == list(shares)[::-1]
    np.testing.assert_allclose([bar.get_width() for bar in ax.patches], list(shares.values())[::-1])


def test_importance_is_the_effect_size_of_kruskal_and_wallis():
    from scipy.stats import kruskal

    rng = np.random.default_rng(0)
    group, values = rng.integers(0, 4, 80).astype(float), rng.normal(size=80)
    values += 0.5 * group
    h = kruskal(*(values[group == g] for g in range(4))).statistic
    columns = [Column("group", group), Column("constant", np.ones(80))]
    columns.append(Column("rare", np.where(np.arange(80) < 9, group, np.nan)))
    shares = importance_of(columns, values)
    assert shares == {"group": pytest.approx((h - 3) / 76), "constant": 0.0, "rare": 0.0}


def test_importance_without_effect_is_near_zero():
    rng = np.random.default_rng(1)
    columns = [Column(str(i), rng.random(200)) for i in range(50)]
    shares = list(importance_of(columns, rng.random(200)).values())
    assert np.mean(shares) < 0.03


def test_pruned_evaluations_are_left_out():
    result = found()
    pruned = np.arange(120) % 2 == 0
    values = np.where(pruned, -1.0, result.history.values)
    result.history.values, result.history.pruned = values, pruned
    (lines,) = result.plot_parallel().collections
    assert len(lines.get_segments()) == np.sum(np.isfinite(values) & ~pruned)
    assert list(result.importance())[0] == "rate"


def test_several_objectives_have_other_pictures():
    def fun(x):
        return x**2, (x - 1) ** 2

    result = search.minimize(fun, search.uniform(-1, 2), budget=20, key=0, objectives=2, repeats=2)
    assert [run.values.shape for run in result.runs] == [(20, 2)] * 2
    for picture in (result.plot_parallel, result.importance, lambda: search.plot_history(result)):
        with pytest.raises(ValueError, match="one value an evaluation.*plot_front"):
            picture()


def test_columns_have_the_scale_of_their_domain():
    space = search.space(
        {
            "width": search.log_integers(8, 512),
            "level": search.ordered([0.001, 0.01, 0.1]),
            "size": search.choice([1, 10, 100]),
            "free": search.real(5, 1),
            "order": search.permutation(["a", "b"]),
        }
    )
    columns = columns_of(space, np.stack([space.low, space.high]))
    logs = {column.label: column.is_log for column in columns}
    names = "free level order[0] order[1] size width".split()
    assert logs == {name: name in ("level", "width") for name in names}


def test_pictures_survive_pickling_and_need_points():
    result = found()
    again = result._replace(history=pickle.loads(pickle.dumps(result.history)))
    again = again._replace(history=pickle.loads(pickle.dumps(again.history)))
    assert again.importance() == result.importance()
    empty = search.History(np.zeros(3), np.zeros(3), None, np.zeros(3, bool))
    with pytest.raises(ValueError, match="history must hold points"):
        result._replace(history=empty).plot_parallel()
