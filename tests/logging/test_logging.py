"""Loggers: rows as the run's history has them, continued files, and the packages of others."""

import csv
import sys
import types

import jax.numpy as jnp
import numpy as np
import pytest

import zojax
from zojax import logging, search


def rows_of(path):
    with open(path) as file:
        return list(csv.DictReader(file))


def minimized(log, steps, tx, **options):
    x0 = options.pop("x0", jnp.ones(3))
    return zojax.minimize(_square, x0, tx, steps, callback=log, chunk_size=4, **options)


def _square(x):
    return jnp.sum(x**2)


def test_each_step_of_minimize_has_a_row_and_a_continued_run_counts_on(tmp_path):
    path, tx = tmp_path / "run.csv", zojax.with_metrics(zojax.mezo(0.1))
    with logging.csv(path) as log:
        first = minimized(log, 8, tx)
    with logging.csv(path) as log:
        more = minimized(log, 4, tx, x0=first.params, state=first.state)
    rows = rows_of(path)
    assert [int(row["step"]) for row in rows] == list(range(1, 13))
    values = np.concatenate([first.history, more.history])
    assert [float(row["value"]) for row in rows] == values.tolist()
    assert [bool(row["c_norm"]) for row in rows] == 3 * [False, False, False, True]


def test_rows_after_a_new_first_step_are_replaced(tmp_path):
    path = tmp_path / "run.csv"
    for begin in (1, 3):
        with logging.csv(path) as log:
            for step in range(begin, 6):
                log.write(step, {"loss": step + 0.5 * begin})
    log.write(6, {"loss": 1, "more": 2})
    log.close()
    assert [row["loss"] for row in rows_of(path)] == ["1.5", "2.5", "4.5", "5.5", "6.5", "1"]
    assert [row["more"] for row in rows_of(path)] == 5 * [""] + ["2"]
    path.write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="no column step. Choose another path"):
        logging.csv(path)
    with pytest.raises(OSError):
        logging.csv(tmp_path / "no" / "run.csv")


@pytest.mark.parametrize("objectives", [1, 2])
def test_a_search_has_a_row_for_each_evaluation(objectives, tmp_path):
    space = search.space({"x": search.uniform(-1, 1)})

    def fun(point):
        return float(point["x"] ** 2) if objectives == 1 else [point["x"], -point["x"]]

    with logging.csv(tmp_path / "run.csv") as log:
        options = dict(budget=6, key=0, jit=False, callback=log)
        found = search.minimize(fun, space, objectives=objectives, **options)
    rows = rows_of(tmp_path / "run.csv")
    assert [int(row["step"]) for row in rows] == list(range(1, 7))
    if objectives == 1:
        assert min(float(row["value"]) for row in rows) == found.best_value
        assert float(rows[-1]["best_value"]) == found.best_value
    else:
        assert all(float(row["value_0"]) == -float(row["value_1"]) for row in rows)
        assert int(rows[-1]["front"]) == len(found.front.values)


def test_several_callbacks_see_each_step_and_one_ends_the_run():
    seen = []
    log = logging.Logger(lambda step, scalars: seen.append((step, scalars["value"])))
    stop = logging.both(log, lambda progress: progress.step >= 4)
    found = minimized(stop, 12, zojax.mezo(0.1))
    assert found.steps == 4 and [step for step, _ in seen] == [1, 2, 3, 4]
    with pytest.raises(TypeError, match="a method scalars.*got a dict; call log.write"):
        log({"loss": 1})


def test_wandb_gets_scalars_and_options(monkeypatch):
    calls = []
    run = types.SimpleNamespace(
        log=lambda scalars, step: calls.append((step, scalars)), finish=lambda: calls.append("end")
    )
    package = types.ModuleType("wandb")
    package.init = lambda **options: calls.append(options) or run
    monkeypatch.setitem(sys.modules, "wandb", package)
    with logging.wandb(project="p") as log:
        log.write(1, {"loss": 2.0})
    assert calls == [{"project": "p"}, (1, {"loss": 2.0}), "end"]
    logging.wandb(run).close()
    assert calls[3:] == []  # the run is its owner's
    with pytest.raises(TypeError, match="leave out project"):
        logging.wandb(run, project="p")


@pytest.mark.parametrize(
    "module, extra, make",
    [
        ("tensorboardX", "tensorboard", lambda path: logging.tensorboard(path)),
        ("wandb", "wandb", lambda path: logging.wandb()),
    ],
)
def test_a_missing_package_names_its_extra(module, extra, make, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ModuleNotFoundError, match=rf'{module} is missing.*"zojax\[{extra}\]"'):
        make(tmp_path)
