"""How searches end before their budget is spent: interrupts, callbacks, executors that break."""

import math
import os
import time
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor

import jax.numpy as jnp
import numpy as np
import pytest

from zojax import search
from zojax.search import _host

BOX = search.space(search.uniform(-1, 1, (3,)))
RESET = search.coordinate_reset()


def bowl(x):
    return jnp.sum((x - 0.3) ** 2)


def host_bowl(x):
    return float(np.sum((np.asarray(x) - 0.3) ** 2))


def run(fun=bowl, space=BOX, algorithm=RESET, budget=60, key=0, **options):
    return search.minimize(fun, space, algorithm, budget=budget, key=key, **options)


def interrupts_after(count, fun=host_bowl):
    calls = []

    def interrupted(*args):
        calls.append(1)
        if len(calls) > count:
            raise KeyboardInterrupt
        return fun(*args)

    return interrupted


def interrupt(monkeypatch, **after):
    """Interrupts a program of a search on the host after so many calls."""
    programs = _host._compile(RESET, search.space(BOX))
    programs = programs._replace(
        **{name: interrupts_after(count, getattr(programs, name)) for name, count in after.items()}
    )
    monkeypatch.setattr(_host, "_compile", lambda *problem: programs)


@pytest.mark.parametrize("algorithm", [RESET, search.random_search(7)])
def test_an_interrupt_ends_all_runs_on_the_host(algorithm):
    result = run(interrupts_after(70), algorithm=algorithm, repeats=4, jit=False)
    assert result.message == "interrupted" and result.evaluations == 70
    assert result.run_values.shape == (2,) and np.isfinite(result.best_value)


def test_an_interrupt_of_given_points_keeps_those_before():
    points = list(np.linspace(-1, 1, 30).reshape(10, 3))
    result = run(interrupts_after(6), init_points=points, jit=False)
    assert result.message == "interrupted" and result.evaluations == 6
    assert result.best_value == min(map(host_bowl, points[:6]))


def test_an_interrupt_between_evaluations_keeps_what_was_found(monkeypatch):
    programs = _host._compile(RESET, search.space(BOX))
    programs = programs._replace(
        step=interrupts_after(1, programs.step)
    )  # the first is an ask alone
    monkeypatch.setattr(_host, "_compile", lambda *problem: programs)
    result = run(host_bowl, jit=False)
    assert result.message == "interrupted" and result.evaluations == 1


def test_what_a_batch_found_before_an_interrupt_counts():
    fun = interrupts_after(5)
    result = run(fun, algorithm=search.random_search(20), jit=False)
    assert result.evaluations == 5 and result.best_value == result.history.values.min()


@pytest.mark.parametrize("repeats", [1, 3])
def test_an_interrupt_on_the_device_keeps_the_last_part(repeats):
    callback = interrupts_after(4, lambda progress: False)
    result = run(callback=callback, budget=600, repeats=repeats)
    assert result.message == "interrupted" and result.evaluations == 30 * repeats
    assert np.isfinite(result.history.values).all()


def test_an_interrupt_before_there_is_anything_is_raised():
    with pytest.raises(KeyboardInterrupt):
        run(algorithm=RESET._replace(init=interrupts_after(0)), jit=False)
    with pytest.raises(KeyboardInterrupt):
        run(interrupts_after(0), jit=False)
    with pytest.raises(KeyboardInterrupt):
        run(algorithm=RESET._replace(tell=interrupts_after(0)), callback=lambda p: False)


def test_an_interrupt_of_a_later_run_keeps_those_before(monkeypatch):
    interrupt(monkeypatch, start=2)
    result = run(host_bowl, repeats=4, jit=False)
    assert result.message == "interrupted" and result.evaluations == 120
    assert result.run_values.shape == (2,)


@pytest.mark.parametrize(
    "fun, algorithm", [(host_bowl, RESET), (bowl, search.portfolio()), (bowl, RESET)]
)
def test_a_callback_ends_all_runs(fun, algorithm):
    result = run(fun, algorithm=algorithm, repeats=3, callback=lambda p: p.evaluations >= 10)
    assert result.message == "stopped by callback"
    side_by_side = fun is bowl and algorithm.runs_together
    assert result.evaluations == (30 if side_by_side else 10)


@pytest.mark.parametrize("options", [{}, {"init_points": [np.zeros(3)] * 60}])
def test_time_is_over_within_a_batch(options):
    def slow(x):
        time.sleep(0.02)
        return host_bowl(x)

    result = run(
        slow, algorithm=search.random_search(60), budget=60, jit=False, time_budget=0.05, **options
    )
    assert result.message.startswith("time budget") and result.evaluations < 10
    assert np.isfinite(result.best_value)


def test_reports_under_a_clock_begin_early_and_all_are_one_history():
    seen = []
    options = {"callback": lambda p: seen.append(p.evaluations), "time_budget": 3600.0}
    result, alone = run(budget=20_000, **options), run(budget=20_000)
    assert seen[0] == 16 and max(np.diff(seen)) <= 200
    np.testing.assert_array_equal(result.history.values, alone.history.values)
    np.testing.assert_array_equal(result.history.points, alone.history.points)


def test_time_is_over_for_all_runs():
    result = run(host_bowl, repeats=3, time_budget=1e-9)
    assert result.evaluations == 1 and "time budget" in result.message


class Breaks(Executor):
    """An executor whose workers die after some evaluations, in one of the two ways of a process pool."""

    def __init__(self, after, raises):
        self.left, self.raises = after, raises

    def submit(self, fun, /, *args, **kwargs):
        self.left -= 1
        future = Future()
        if self.left >= 0:
            future.set_result(fun(*args, **kwargs))
        elif self.raises:
            raise BrokenExecutor("a worker died")
        else:
            future.set_exception(BrokenExecutor("a worker died"))
        return future


@pytest.mark.parametrize("algorithm", [search.asracos(in_flight=3), search.random_search(4)])
@pytest.mark.parametrize("raises", [True, False])
def test_an_executor_that_breaks_ends_the_search_with_what_was_found(algorithm, raises):
    result = run(host_bowl, algorithm=algorithm, executor=Breaks(20, raises), repeats=2)
    assert result.message == "executor broke: a worker died"
    assert 15 < result.evaluations <= 20 and result.failures == 0
    assert np.isfinite(result.best_value)


def dies(x):
    os._exit(1)


@pytest.mark.slow
def test_a_pool_whose_processes_die():
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        result = run(dies, algorithm=None, executor=pool)
    assert result.message.startswith("executor broke") and result.evaluations == 0


def test_given_points_are_evaluated_at_once_by_an_executor():
    import threading

    barrier = threading.Barrier(4, timeout=20)

    def together(x):
        barrier.wait()
        return host_bowl(x)

    points = list(np.linspace(-1, 1, 12).reshape(4, 3))
    with ThreadPoolExecutor(4) as pool:
        result = run(
            together, algorithm=search.random_search(4), budget=4, executor=pool, init_points=points
        )
    assert result.failures == 0 and result.evaluations == 4


@pytest.mark.parametrize("jit", [True, False])
def test_points_that_are_given_twice_do_not_exhaust_a_space(jit):
    def fun(n):
        return abs(n - 3) * 1.0

    space = search.integers(0, 3)
    result = run(fun, space, budget=50, jit=jit, init_points=[0, 0, 0])
    assert result.best == 3 and result.evaluations == 6 and "exhausted" in result.message
    known = run(fun, space, budget=50, jit=jit, init_points=[0, 1], init_values=[3, 2])
    assert known.best == 3 and known.evaluations == 2
    nothing = run(
        fun,
        space,
        budget=50,
        jit=jit,
        init_points=list(range(4)),
        init_values=[3, 2, 1, 0],
        callback=lambda progress: False,
    )
    assert nothing.best == 3 and nothing.evaluations == 0 and "exhausted" in nothing.message


@pytest.mark.parametrize("callback", [None, lambda progress: False])
@pytest.mark.parametrize("repeats", [1, 3])
@pytest.mark.parametrize("jit", [True, False])
def test_a_target_that_is_met_at_the_start_ends_the_search(jit, repeats, callback):
    options = {"jit": jit, "repeats": repeats, "callback": callback, "target": 0.1}
    start = [np.full(3, 0.3)]
    known = run(bowl, init_points=start, init_values=[0.0], **options)
    assert known.message == "target reached" and known.evaluations == 0 == known.best_value
    counted = run(bowl, init_points=start, **options)
    assert counted.message == "target reached" and counted.evaluations == repeats


def test_patience_may_be_longer_than_any_run():
    assert run(patience=10**10).evaluations == 60


def test_the_message_names_what_made_everything_fail():
    with pytest.warns(UserWarning, match="counts as inf"):
        result = run(lambda x: math.sqrt(-1 - x[0] ** 2), jit=False, catch=(ValueError,))
    assert "no evaluation succeeded: ValueError: " in result.message
    mostly = run(lambda x: jnp.where(x[0] > 0, jnp.nan, bowl(x)))
    assert mostly.failures > 0 and "succeeded" not in mostly.message
