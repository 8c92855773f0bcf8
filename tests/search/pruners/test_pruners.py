"""Pruners: their rules on reports alone, and the steps that they save in searches."""

import math
import multiprocessing
import pickle
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import jax.numpy as jnp
import numpy as np
import pytest

from zojax import search

STEPS = 27
HALVING = search.successive_halving(1, STEPS)
PRUNERS = {"successive_halving": HALVING, "median_stopping": search.median_stopping(4)}
SPACE = {"rate": search.log_uniform(1e-3, 1), "decay": search.uniform(0, 1)}


class Training:
    """A synthetic learning curve, and the number of steps that were run."""

    def __init__(self):
        self.steps = 0

    def __call__(self, p, *, report=lambda step, value: None):
        last = (math.log10(p["rate"]) + 2) ** 2 + (p["decay"] - 0.3) ** 2
        for step in range(1, STEPS + 1):
            self.steps += 1
            loss = last + 2 / step
            report(step, loss)
        return loss


def run(fun, pruner, budget=60, **options):
    options = {"key": 0, "algorithm": search.sracos()} | options
    return search.minimize(fun, SPACE, budget=budget, pruner=pruner, **options)


def reported(pruner, *reports):
    """Whether each report (number, step, value) stops its evaluation."""
    state, stops = pruner.init(), []
    for report in reports:
        stop, state = pruner.report(state, *report)
        stops.append(bool(stop))
    return stops


def test_every_public_pruner_is_in_the_table():
    public = {n for n in search.pruners.__all__ if n.islower()}
    assert public == set(PRUNERS)


@pytest.mark.parametrize("name", PRUNERS)
def test_a_report_changes_no_state(name):
    pruner = PRUNERS[name]
    before = pruner.init()
    _, state = pruner.report(before, 0, 1.0, 0.5)
    copy = pickle.loads(pickle.dumps(state))
    pruner.report(state, 1, 1.0, 0.2)
    assert state == copy and before == pruner.init() != state


@pytest.mark.parametrize("name", PRUNERS)
def test_the_best_evaluation_never_stops_and_the_worst_one_does(name):
    curves = [(number, step, number + 1 / step) for number in range(8) for step in range(1, STEPS)]
    stops = reported(PRUNERS[name], *curves)
    assert not any(stops[: STEPS - 1]) and any(stops[-STEPS + 1 :])


def test_successive_halving_passes_the_best_of_each_rung():
    pruner = search.successive_halving(2, 18, reduction=3)  # rungs at 2 and 6
    first = [(i, 2, value) for i, value in enumerate([5, 4, 6, 3, 7, 3.5])]
    # 1 of up to 5 values passes, and 2 of 6.
    assert reported(pruner, *first) == [False, False, True, False, True, False]
    assert reported(pruner, (0, 1, 1), (1, 1, 9)) == [False, False]  # below the first rung
    assert reported(pruner, (0, 2, 1), (1, 2, 0), (0, 3, 9)) == [False] * 3  # between two
    # The first report after a rung counts there.
    assert reported(pruner, (0, 7, 1), (1, 17, 2), (1, 17, 0)) == [False, True, False]
    assert reported(pruner, (0, 2, np.inf), (1, 2, np.inf)) == [False, False]


def test_median_stopping_compares_the_best_value_with_means_of_others():
    pruner = search.median_stopping(3, min_steps=2)
    others = [(i, step, i + step) for i in range(3) for step in (1, 2)]  # means 1.5, 2.5, 3.5 at 2
    assert reported(pruner, *others, (3, 1, 9), (3, 2, 2.4))[-2:] == [False, False]
    assert reported(pruner, *others, (3, 1, 9), (3, 2, 2.6))[-2:] == [False, True]
    assert not any(reported(pruner, *others[:4], (3, 2, 9)))  # two others only


@pytest.mark.parametrize("name, share", [("successive_halving", 1 / 2), ("median_stopping", 2 / 3)])
def test_a_search_takes_fewer_steps_for_a_result_as_good(name, share):
    whole, short = Training(), Training()
    for key in range(3):
        full, pruned = run(whole, None, key=key), run(short, PRUNERS[name], key=key)
        assert pruned.best_value <= full.best_value + 1e-3
        assert not pruned.history.pruned[np.argmin(pruned.history.best_values)]
    assert whole.steps == 3 * 60 * STEPS and short.steps < share * whole.steps


def test_a_pruned_evaluation_has_its_last_value_and_is_never_the_best():
    told = []

    def train(p, *, report):
        told.append(p["decay"])
        report(1, p["decay"])
        return 2.0 if len(told) == 1 else 1.5

    below = search.Pruner(lambda: None, lambda state, number, step, value: (number > 1, state))
    result = run(train, below, budget=10, algorithm=search.random_search())
    assert result.history.pruned.tolist() == [False] * 2 + [True] * 8
    np.testing.assert_array_equal(result.history.values[2:], told[2:])
    assert result.history.values.min() < 1 and result.best_value == 1.5
    assert result.best["decay"] == told[1] and result.history.best_values[-1] == 1.5
    assert result.failures == 0


def test_the_rule_may_be_the_functions_own():
    def train(p):
        if p["decay"] > 0.5:
            raise search.Pruned(3, 10 + p["decay"])
        return p["decay"]

    result = run(train, None, algorithm=search.random_search(), budget=30, maximize=True)
    points = result.history.points["decay"]
    np.testing.assert_array_equal(result.history.pruned, points > 0.5)
    np.testing.assert_array_equal(result.history.values, points + 10 * (points > 0.5))
    assert result.best_value == points[points <= 0.5].max() and result.failures == 0


def test_maximizing_prunes_the_lowest():
    short, training = Training(), Training()
    plain = run(short, PRUNERS["successive_halving"])

    def worth(p, *, report):
        return -training(p, report=lambda step, value: report(step, -value))

    signed = run(worth, PRUNERS["successive_halving"], maximize=True)
    np.testing.assert_array_equal(plain.history.values, -signed.history.values)
    np.testing.assert_array_equal(plain.history.pruned, signed.history.pruned)


def test_threads_report_side_by_side():
    training = Training()
    with ThreadPoolExecutor(3) as pool:
        result = run(training, HALVING, executor=pool, algorithm=search.asracos())
    assert result.evaluations == 60 and 30 < result.history.pruned.sum() < 60


def trained(p, *, report):
    return Training()(p, report=report)


@pytest.mark.slow  # it starts processes
def test_processes_report_to_the_search():
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        result = run(trained, HALVING, executor=pool, algorithm=search.asracos())
        assert result.evaluations == 60 and result.failures == 0
        assert 30 < result.history.pruned.sum() < 60
        broken = search.Pruner(lambda: None, lambda *report: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run(trained, broken, executor=pool, algorithm=search.asracos())


def test_the_last_evaluations_of_a_noisy_search_are_whole():
    def noisy(p, *, key, report):
        report(1, p["decay"])
        return p["decay"]

    every = search.Pruner(lambda: None, lambda state, number, step, value: (number % 2 == 0, state))
    result = run(noisy, every, budget=200, with_key=True, algorithm=search.random_search())
    assert result.evaluations == 200 and result.history.pruned.sum() == 98
    assert not result.history.pruned[-4:].any()


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: search.successive_halving(0, 9), "min_steps must be positive"),
        (lambda: search.successive_halving(9, 9), "min_steps must be below max_steps = 9, got 9"),
        (lambda: search.successive_halving(1, 9, 1), "reduction must be at least 2, got 1"),
        (lambda: search.median_stopping(0), "min_evaluations must be at least 1"),
        (lambda: run(lambda p: 0.0, search.median_stopping), "pruner must be a Pruner.*forget"),
        (lambda: run(lambda p: jnp.sum(p), PRUNERS["median_stopping"], jit=True), "pass jit=False"),
    ],
)
def test_wrong_settings_are_refused(make, message):
    with pytest.raises((TypeError, ValueError), match=message):
        make()


@pytest.mark.parametrize("wrong", [("a", 1), (1, None), (1, [1, 2])])
def test_a_report_without_two_numbers_is_an_error_of_fun(wrong):
    with (
        pytest.raises(TypeError, match=r"report\(step, value\) takes two numbers, got"),
        pytest.warns(UserWarning, match="an evaluation failed"),
    ):
        run(lambda p, *, report: report(*wrong), PRUNERS["median_stopping"], budget=3)
