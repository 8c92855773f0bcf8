"""The tuning example: masks against a small network, failures, its result in a reduced form."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zojax.examples import _candidates, _trainings, _tuning_report, tuning

POINT = {
    "learning_rate": 0.05,
    "weight_decay": 1e-4,
    "dropout": 0.0,
    "widths": np.array([5, 3, 7]),
    "depth": 2,
    "activation": 1,
}
# As many trainings of finalists as at the start: one program serves both.
REDUCED = ["--data", "breast_cancer", "--budget", "28", "--start", "8", "--runs", "2"]
REDUCED += ["--finalists", "4", "--seeds", "2", "--steps", "40"]


@cache
def network():
    """Inputs and the weights of the widest network; one program."""
    made = jax.jit(lambda a, b: (jax.random.normal(a, (4, 6)), _trainings.init(b, 6, 3, POINT)))
    return made(jax.random.key(0), jax.random.key(1))


def test_a_masked_network_is_the_small_one():
    x, layers = network()
    got = jax.jit(lambda p: _trainings.forward(p, POINT, x))(layers)
    h = jnp.tanh(x @ layers[0]["weight"][:, :5])
    h = jnp.tanh(h @ layers[1]["weight"][:5, :3])
    np.testing.assert_allclose(got, h @ layers[-1]["weight"][:3], rtol=1e-5, atol=1e-5)


def test_masked_units_get_no_gradient():
    x, layers = network()
    grads = jax.jit(jax.grad(lambda p: jnp.sum(_trainings.forward(p, POINT, x) ** 2)))(layers)
    assert np.any(grads[0]["weight"][:, :5]) and not np.any(grads[0]["weight"][:, 5:])
    assert not np.any(grads[2]["weight"]) and not np.any(grads[-1]["weight"][3:])


def test_the_split_uses_every_row_once():
    parts = _trainings.load("breast_cancer")
    assert sum(len(y) for _, y in parts) == 569
    assert abs(parts.train[0].mean(0)).max() < 0.2  # clipped after standardising


def test_finalists_differ_and_the_best_mean_is_chosen():
    points = {"x": np.array([3.0, 1.0, 3.0, np.nan, 2.0])}
    three = _candidates.different(points, 4)
    assert three["x"][:2].tolist() == [3.0, 1.0] and len(three["x"]) == 4
    point, values = tuning.choose(
        lambda p, key: p["x"] + 0 * jax.random.normal(key), three, 2, jax.random.key(0)
    )
    assert point["x"] == 1.0 and np.isinf(values).sum() == 2  # nan is the worst, not fatal


@pytest.mark.slow  # three programs of trainings, which share no part
def test_tuning_survives_failures_and_beats_bad_hyper_parameters(tmp_path, capsys):
    args = tuning.settle(tuning.make_parser().parse_args(REDUCED))
    # Random search compiles least. Three evaluations of a run are too few for a better algorithm.
    key, method = jax.random.key(0), "random search"
    tuned = tuning.tune("breast_cancer", tuning.METHODS[method], args, key)
    losses = tuning.judge("breast_cancer", args.steps, tuned.point, jax.random.key(9), 8)
    assert tuned.trainings <= args.budget
    start = tuned.values[: args.start]
    assert np.mean(losses.validation) < min(0.25, np.median(start))
    assert float(np.mean(losses.error)) < 0.1
    diverging = {**POINT, "learning_rate": 10.0, "weight_decay": 1.0, "activation": 0}
    bad = tuning.judge("breast_cancer", args.steps, diverging, jax.random.key(9), 8)
    assert not np.mean(bad.validation) < np.mean(losses.validation)

    found = _tuning_report.Comparison("breast_cancer", method, tuned, losses, 1.0)
    assert f"{np.mean(losses.test):.4f}" in _tuning_report.report([found])
    picture = _tuning_report.plot(tmp_path / "t.png", [found] * 3)
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "given, message",
    [
        (["--runs", "0"], "--runs must be positive, got 0; try 2."),
        (["--seed", "-1"], "--seed must be from 0 to 2**32 - 1, got -1;"),
        (["--budget", "20"], "--budget must be at least 38"),
    ],
)
def test_wrong_arguments_end_the_program_with_advice(given, message, capsys):
    with pytest.raises(SystemExit) as caught:
        tuning.main(given)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err
