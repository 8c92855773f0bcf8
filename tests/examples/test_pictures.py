"""Pictures: no legend covers a curve, every axis has a name, counts have whole ticks."""

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from benchmarks import pictures, store
from zojax.examples import _plots, _trainings, _tuning_report, subset


@pytest.fixture
def figures(monkeypatch):
    """Figures in the order in which they were written; files are written too."""
    found, save = [], _plots.save_figure

    def kept(figure, path, dpi=150):
        found.append(figure)
        return save(figure, path, dpi)

    monkeypatch.setattr(_plots, "save_figure", kept)
    return found


def check(figure):
    """The laws of all pictures."""
    FigureCanvasAgg(figure).draw()
    legends = [*figure.legends, *(ax.get_legend() for ax in figure.axes)]
    boxes = [legend.get_window_extent() for legend in legends if legend is not None]
    for ax in figure.axes:
        for line in ax.lines if ax.axison else ():
            points = line.get_transform().transform(line.get_xydata())
            x, y = _dense(points[np.isfinite(points).all(axis=1)]).T
            inside = ax.bbox.contains
            for box in boxes:
                hidden = [box.contains(a, b) and inside(a, b) for a, b in zip(x, y, strict=True)]
                assert not any(hidden), line.get_label()
    return boxes


def _dense(points):
    """Points along the curve, some pixels apart."""
    at = np.arange(len(points))
    between = np.linspace(0, len(points) - 1, 20 * len(points))
    return np.column_stack([np.interp(between, at, axis) for axis in points.T])


def whole(ticks):
    return all(float(tick).is_integer() for tick in ticks)


def test_a_loss_curve_has_a_title_and_the_loss_before_training(figures, tmp_path):
    losses = [float("nan")] * 3 + list(np.geomspace(2, 1, 7))
    words = dict(label="held-out", start="zero-shot", what="NLL", title="mezo on reviews")
    _plots.loss_curve(tmp_path / "a.png", losses, {0: 2.0, 5: 1.5, 10: 1.2}, **words)
    _plots.loss_curve(tmp_path / "b.png", [1.0, 1e9], {0: 2.0, 1: 1e4, 2: 1e12}, **words)
    for figure, points in zip(figures, ([2.0, 1.5, 1.2], [2.0, 1e4, 1e12]), strict=True):
        check(figure)
        (ax,) = figure.axes
        lines = {line.get_label(): line for line in ax.lines}
        assert ax.get_title() == "mezo on reviews" and ax.get_xlabel() == "step"
        assert set(lines["held-out, zero-shot"].get_ydata()) == {2.0}
        np.testing.assert_array_equal(lines["held-out"].get_ydata(), points)
    assert [figure.axes[0].get_yscale() for figure in figures] == ["linear", "log"]
    assert whole(figures[1].axes[0].get_xticks())


def test_columns_are_whole_and_equal_curves_are_both_seen(figures, tmp_path):
    rows = [subset.Choice("digits", k, (1 / k, 2 / k), (1 / k, 2 / k), [], 1.0) for k in (3, 4)]
    subset.plot(tmp_path / "a.png", rows)
    check(figures[0])
    (ax,) = figures[0].axes
    assert whole(ax.get_xticks())
    greedy, poss = ([x for x in ax.lines if name in x.get_label()] for name in ("greedy", "poss"))
    for under, over in zip(greedy, poss, strict=True):
        assert under.get_linewidth() > 2 * over.get_linewidth()
        assert under.get_color() != over.get_color()


def test_the_tuning_plot_shows_every_curve(figures, tmp_path):
    rng = np.random.default_rng(0)
    lines = []
    for method, fresh, count in [("untuned", 0.1, 0), ("random search", 0.09, 40)] + [
        ("zojax.search", 0.05, 30)
    ]:
        values = np.exp(rng.normal(-2, 1, count))
        values[::10] = np.inf
        losses = _trainings.Losses(*np.full((3, 4), fresh))
        tuned = _tuning_report.Tuned({}, values, 4, count)
        lines.append(_tuning_report.Comparison("digits", method, tuned, losses, 1.0))
    _tuning_report.plot(tmp_path / "a.png", lines)
    check(figures[0])
    (ax,) = figures[0].axes
    colors = {line.get_label().split(":")[0]: line.get_color() for line in ax.lines}
    named = [colors[line.method] for line in lines]
    assert len(set(named)) == 3
    low, high = np.log(ax.get_ylim())
    for line in ax.lines:  # curves fill the panel, and none leaves it
        heights = np.log(line.get_ydata())
        assert np.all((heights >= low) & (heights <= high))
    steps = [line for line in ax.lines if len(line.get_ydata()) > 2]
    heights = np.log(np.concatenate([line.get_ydata() for line in steps]))
    assert np.ptp(heights) > 0.8 * (high - low)


def test_the_quality_plot_shows_every_curve(tmp_path):
    rows = store.load(store.RESULTS / "cpu", "quality")
    pictures.draw(tmp_path, {"quality": rows})
    assert (tmp_path / "quality.png").exists()
    figure = pictures.losses(rows)
    assert check(figure)
    left, right = figure.axes
    assert (left.get_xlabel(), right.get_xlabel()) == ("evaluations", "seconds")
    assert left.get_ylabel() and figure.get_suptitle()
    styles = {line.get_label(): line.get_linestyle() for line in left.lines}
    assert styles["jax.grad, adam"] != styles["jax.grad checkpointed, adam"]  # the same curve


@pytest.mark.parametrize("panels", [2, 5])
def test_the_search_curves_have_names_and_styles_of_their_own(panels):
    methods = ["zojax default", *(f"peer {i}" for i in range(9))]
    rows = [
        {"work": f"p{i}", "contestant": m, "at": [1, 10, 100], "curve": [10.0, 3.0 + k, 1.0 + k]}
        for i in range(panels)
        for k, m in enumerate(methods)
    ]
    figure = pictures.curves(rows)
    assert len(check(figure)) == 1
    drawn = [ax for ax in figure.axes if ax.axison]
    assert len(drawn) == panels and drawn[0].get_ylabel() and drawn[-1].get_xlabel()
    looks = {(line.get_color(), line.get_linestyle()) for line in drawn[0].lines}
    assert len(looks) == len(methods)
