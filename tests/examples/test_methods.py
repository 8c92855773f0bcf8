"""The race of methods: its table has every optimizer, its rates are chosen on validation data."""

import re
from functools import partial

import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from zojax import optimizers
from zojax.examples import methods
from zojax.examples._methods import METHODS
from zojax.examples._race import Runs, Work, digits, race, reached, state_per_parameter


def test_every_optimizer_has_a_row():
    of_the_dtype = {"compensated_rounding", "qes", "qzo", "stochastic_rounding"}
    named = {name.split(",")[0] for name in METHODS}
    public = {name for name in optimizers.__all__ if callable(getattr(optimizers, name))}
    assert public - named <= of_the_dtype


def test_evaluations_are_counted_and_a_rate_of_zero_moves_nothing():
    work, method = digits(batch=8), METHODS["backpropagation, sgd"]
    runs = race(work, method, 4, rates=(0.1, 0.0), seeds=(3,), points=2)
    assert runs.evaluations.tolist() == [0, 2, 4]
    untrained = runs.validation[1, 0]
    assert (untrained == untrained[0]).all() and runs.validation[0, 0, 2] < untrained[0]
    assert state_per_parameter(work, METHODS["mezo, tied noise"]) < 0.001
    assert 2 <= state_per_parameter(work, METHODS["zo_adam"]) < 2.1


def test_arrays_of_a_partial_train_as_constants_do():
    target = jnp.arange(3.0)

    def loss(target, params, batch=None):
        return jnp.sum((params - target) ** 2)

    def work(wrapped):
        held = wrapped(loss, target)
        return Work(lambda key: jnp.ones(3), held, lambda key: key, held, held, 1e-3)

    found = [
        race(work(wrapped), METHODS["backpropagation, sgd"], 8, (0.1,), (0,), points=2).validation
        for wrapped in (partial, Partial)
    ]
    np.testing.assert_allclose(*found, rtol=1e-6)
    assert found[0][0, 0, -1] < found[0][0, 0, 0]


def test_the_best_rate_is_that_of_validation_losses():
    validation = np.array([[[3.0, 2.0]], [[3.0, np.nan]], [[3.0, 1.0]]])
    runs = Runs(np.array([0, 10]), validation, np.array([[0.0], [0.0], [9.0]]))
    assert runs.best() == 2
    found = [reached(runs.evaluations, runs.curve, loss) for loss in (1.0, 3.0, 0.5)]
    assert found == [10, 0, None]


def test_the_report_has_all_methods_and_a_picture(tmp_path, capsys):
    given = ["--methods", "backpropagation, adam", "--evaluations", "4", "--seeds", "1"]
    assert methods.main([*given, "--out", str(tmp_path / "race.png")]) == 0
    printed = capsys.readouterr().out
    assert "backpropagation, adam" in printed.split("nats", 1)[1]
    assert (tmp_path / "race.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "given, message",
    [
        (["--evaluations", "15"], "--evaluations must be at least 16, .*, got 15"),
        (["--seeds", "0"], "--seeds must be positive, got 0; try 3"),
        (["--mu", "-1"], "--mu must be positive, got -1.0; try 0.001"),
    ],
)
def test_bad_arguments_are_refused(given, message, capsys):
    with pytest.raises(SystemExit) as stop:
        methods.main(given)
    assert stop.value.code == 2
    errors = capsys.readouterr().err
    assert re.search(message, errors), errors
