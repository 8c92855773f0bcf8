"""Runs that are extended, evaluated at intervals, checkpointed, continued and logged, to the bit."""

import csv
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import zojax
from zojax import lm, trajectory

X = jax.random.normal(jax.random.key(0), (16, 3))
BATCHES = [{"x": X + i, "label": (X[:, 0] > 0).astype(jnp.int32)} for i in range(3)]
FIELDS = lm.classification(lambda params, frozen, batch: batch["x"] @ params["w"])


def task(dtype=jnp.float32):
    params = {"w": jnp.zeros((3, 2), dtype)}
    endless = lambda seed, size: itertools.cycle(BATCHES)  # noqa: E731
    return lm.Task(params, {}, *FIELDS, endless, lambda name: BATCHES[:1])


def optimizer(schedule="constant"):
    rates = {"constant": 0.1, "cosine": optax.cosine_decay_schedule(0.1, 8)}
    estimator = zojax.estimator(num_directions=2)
    return zojax.zeroth_order(optax.adam(rates[schedule]), estimator, key=3)


def run(steps, tx, dtype=jnp.float32, **options):
    this = task(dtype)
    return lm.train(this, tx, steps, this.batches(0, 0), this.split(""), **options)


def same(a, b, losses=True):
    assert np.asarray(a.params["w"]).tobytes() == np.asarray(b.params["w"]).tobytes()
    for k in a.outputs.keys() & b.outputs.keys():
        np.testing.assert_array_equal(a.outputs[k], b.outputs[k])
    if losses:
        np.testing.assert_array_equal(a.losses, b.losses)


@pytest.mark.parametrize(
    "kept, schedule",
    [
        ("checkpoint", "cosine"),
        pytest.param("log", "constant", marks=pytest.mark.slow),
        pytest.param("checkpoint", "constant", marks=pytest.mark.slow),
        pytest.param("log", "cosine", marks=pytest.mark.slow),
    ],
)
def test_an_extended_run_has_the_bits_of_a_long_one(kept, schedule, tmp_path):
    tx, options = optimizer(schedule), {kept: tmp_path / "run", "every": 4}
    whole = run(8, tx, every=4)
    first = run(4, tx, **options)
    assert list(first.outputs) == [0, 4] and len(first.losses) == 4
    extended = run(8, tx, **options)
    same(whole, extended, losses=kept == "checkpoint")
    assert list(extended.outputs) == list(whole.outputs) == [0, 4, 8]
    assert len(extended.losses) == 8
    same(whole, run(8, tx, **options), losses=kept == "checkpoint")  # nothing is left to do
    with pytest.raises(ValueError, match="run has 8 steps, more than 5"):
        run(5, tx, **options)
    if kept == "log":
        assert trajectory.load(tmp_path / "run").steps == 8


def test_a_run_that_was_cut_off_continues_from_its_checkpoint(tmp_path):
    def dying(progress):
        if progress.step == 5:
            raise KeyboardInterrupt

    tx, options = optimizer(), dict(dtype=jnp.bfloat16, every=2, checkpoint=tmp_path / "run")
    whole = run(8, tx, dtype=jnp.bfloat16, every=2)
    with pytest.raises(KeyboardInterrupt):
        run(8, tx, callback=dying, **options)
    steps = []
    found = run(8, tx, callback=lambda progress: steps.append(progress.step), **options)
    same(whole, found)
    assert steps == [5, 6, 7, 8] and found.params["w"].dtype == jnp.bfloat16


def test_another_run_s_checkpoint_is_refused(tmp_path):
    path = tmp_path / "run"
    run(2, optimizer(), checkpoint=path)
    with pytest.raises(
        ValueError, match=r"its state.inner_state.* is int32\[\], this run's is missing"
    ):
        run(2, zojax.mezo(0.1, num_directions=2), checkpoint=path)
    path.write_bytes(b"cut")
    with pytest.raises(ValueError, match="run is no checkpoint; choose another path"):
        run(2, optimizer(), checkpoint=path)
    with pytest.raises(ValueError, match="a log or a checkpoint, not both"):
        run(2, optimizer(), checkpoint=path, log=path)
    with pytest.raises(ValueError, match="every must be at least 1, got 0"):
        run(2, optimizer(), every=0)


def test_losses_scores_and_metrics_are_logged(tmp_path):
    tx = zojax.with_metrics(optimizer())
    with zojax.logging.csv(tmp_path / "run.csv") as log:
        found = run(4, tx, every=2, callback=log)
    rows = list(csv.DictReader(open(tmp_path / "run.csv")))
    assert [row["step"] for row in rows] == list("01234")
    assert [float(row["loss"]) for row in rows[1:]] == found.losses
    assert [row["accuracy"] != "" for row in rows] == [True, False, True, False, True]
    score = lm.score(found.outputs[4], found.labels)
    assert float(rows[-1]["NLL"]) == score.nll and float(rows[-1]["alignment"]) != 0
