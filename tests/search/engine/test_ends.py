"""How searches end before their budget is spent: interrupts, callbacks, executors that break."""

import itertools
import math
import os
import threading
import time
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.search.engine._helpers import BOX, RESET, bowl, host_bowl, run
from zojax import search
from zojax._evaluation import evaluator
from zojax.search.engine import host, log


def interrupts_after(count, fun=host_bowl, error=KeyboardInterrupt):
    calls = []

    def interrupted(*args):
        calls.append(1)
        if len(calls) > count:
            raise error
        return fun(*args)

    return interrupted


def programs_of_reset():
    return host.host_programs(RESET, search.space(BOX), 60, jax.random.key(0), np.dtype(float))


def interrupt(monkeypatch, error=KeyboardInterrupt, **after):
    """Interrupts a program of a search on the host after so many calls."""
    programs = programs_of_reset()
    for name, count in after.items():
        new = interrupts_after(count, getattr(programs, name), error)
        programs = programs._replace(**{name: new})
    monkeypatch.setattr(host, "host_programs", lambda *problem: programs)


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
    interrupt(monkeypatch, step=0)
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
    "fun, algorithm",
    [(host_bowl, RESET), (bowl, RESET._replace(runs_together=False)), (bowl, RESET)],
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

    algorithm = search.random_search(60)
    result = run(slow, algorithm=algorithm, jit=False, time_budget=0.05, **options)
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


class Ends(Executor):
    """An executor that makes some calls at once, and ends the futures of later ones by `end`."""

    def __init__(self, after, end):
        self.left, self.end = after, end

    def submit(self, fun, /, *args, **kwargs):
        self.left -= 1
        future = Future()
        if self.left >= 0:
            future.set_result(fun(*args, **kwargs))
        else:
            self.end(future)
        return future


def refuses(future):
    raise BrokenExecutor("a worker died")


def fails(future):
    future.set_exception(BrokenExecutor("a worker died"))


@pytest.mark.parametrize("algorithm", [search.asracos(in_flight=3), search.random_search(4)])
@pytest.mark.parametrize("breaks", [refuses, fails])  # the two ways of a process pool
def test_an_executor_that_breaks_ends_the_search_with_what_was_found(algorithm, breaks):
    result = run(host_bowl, algorithm=algorithm, executor=Ends(20, breaks), repeats=2)
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
    barrier = threading.Barrier(4, timeout=20)

    def together(x):
        barrier.wait()
        return host_bowl(x)

    points = list(np.linspace(-1, 1, 12).reshape(4, 3))
    options = {"algorithm": search.random_search(4), "budget": 4, "init_points": points}
    with ThreadPoolExecutor(4) as pool:
        result = run(together, executor=pool, **options)
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
    options = {"init_points": [0, 1, 2, 3], "init_values": [3, 2, 1, 0]}
    nothing = run(fun, space, budget=50, jit=jit, callback=lambda progress: False, **options)
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


class Boom(Exception):
    """Raised by callbacks."""


def raises_after(count, error):
    def callback(progress):
        if progress.evaluations >= count:
            raise error

    return callback


@pytest.mark.parametrize("error", [Boom("boom"), SystemExit(3)])
@pytest.mark.parametrize("fun, jit", [(bowl, True), (host_bowl, False)])
@pytest.mark.parametrize("repeats", [1, 2])
def test_what_a_callback_raises_has_the_result_so_far(fun, jit, repeats, error):
    with pytest.raises(type(error)) as raised:
        run(fun, jit=jit, callback=raises_after(7, error), repeats=repeats)
    assert raised.value is error and raised.traceback[-1].name == "callback"
    partial = raised.value.partial_result
    assert isinstance(partial, search.SearchResult)
    assert partial.evaluations == 7 * (repeats if jit else 1)
    assert partial.message == f"ended by {type(error).__name__}: {error}"
    assert partial.best_value == partial.history.values.min() == partial.run_values.min()
    assert host_bowl(partial.best) == pytest.approx(partial.best_value, rel=1e-5)


def test_what_is_raised_in_a_later_run_has_the_runs_before():
    seen = []

    def callback(progress):
        seen.append(progress)
        if len(seen) == 70:
            raise Boom

    with pytest.raises(Boom) as raised:
        run(host_bowl, jit=False, callback=callback, repeats=3)
    assert raised.value.partial_result.evaluations == 70
    assert raised.value.partial_result.run_values.shape == (2,)


def test_what_is_raised_before_a_later_run_has_the_runs_before(monkeypatch):
    interrupt(monkeypatch, error=Boom, start=1)
    with pytest.raises(Boom) as raised:
        run(host_bowl, jit=False, budget=5, repeats=2)
    assert raised.value.partial_result.evaluations == 5


@pytest.mark.parametrize("error", [KeyboardInterrupt, Boom])
@pytest.mark.parametrize(
    "algorithm",
    [RESET, search.random_search(7), pytest.param(None, marks=pytest.mark.slow)],  # to compile
    ids="reset batch default".split(),
)
def test_the_value_just_told_is_kept(algorithm, error):
    """Each callback of a new best value raises: it is the result's."""

    def run_until(count):
        best = []

        def callback(progress):
            if not best or progress.best_value < best[-1]:
                best.append(progress.best_value)
            if len(best) == count:
                raise error

        options = {"algorithm": algorithm, "jit": False, "callback": callback}
        if error is KeyboardInterrupt:
            return run(host_bowl, **options), best
        with pytest.raises(Boom) as raised:
            run(host_bowl, **options)
        return raised.value.partial_result, best

    for count in (1, 2, 3, 4):
        result, best = run_until(count)
        assert len(best) == count
        assert result.best_value == best[-1] == result.history.values.min()
        assert host_bowl(result.best) == result.best_value


def test_an_interrupt_at_any_moment_leaves_a_result_that_agrees_with_its_history():
    """Interrupted at the n-th line of the loop's own code, for many n."""
    import sys

    programs = programs_of_reset()
    programs.inject(programs.start(jax.random.key(0)), np.zeros(3, np.float32), np.float32(1))
    lines = found = 0
    after = 0

    def trace(frame, event, arg):
        nonlocal lines
        if frame.f_code.co_filename not in (host.__file__, log.__file__, evaluator.__file__):
            return None
        if event == "line":
            lines += 1
            if lines == after:
                raise KeyboardInterrupt
        return trace

    for after in range(150, 1200, 7):
        lines = 0
        old = sys.gettrace()
        sys.settrace(trace)
        try:
            result = run(host_bowl, jit=False, budget=12)
        except KeyboardInterrupt:
            continue
        finally:
            sys.settrace(old)
        found += result.message == "interrupted"
        if result.evaluations:
            assert result.best_value == result.history.values.min(), after
    assert found > 30


def test_values_that_the_algorithm_cannot_tell_apart_do_not_hide_the_least():
    wide = search.uniform(-1, 1, (1000,))  # XLA runs its search, in float32
    with pytest.warns(UserWarning, match="less than float32 resolves"):
        result = run(lambda x: 1.0 + 1e-9 * host_bowl(x[:3]), wide, jit=False)
    assert result.best_value == result.history.values.min()


def returned_within(seconds, call):
    """What a call returns, in a thread of its own, so that a search that hangs only fails."""
    found = []
    thread = threading.Thread(target=lambda: found.append(call()), daemon=True)
    thread.start()
    thread.join(seconds)
    assert found, f"it did not return within {seconds} s"
    return found[0]


class Shuts:
    """A function that shuts its executor down in its fifth call, and may hang from then on."""

    def __init__(self, hangs=None, **how):
        self.pool, self.how, self.hangs = ThreadPoolExecutor(2), how, hangs
        self.numbers = itertools.count(1)

    def __call__(self, x):
        number = next(self.numbers)
        if number == 5:
            self.pool.shutdown(wait=False, **self.how)
        if number >= 5 and self.hangs is not None:
            self.hangs.wait()
        return host_bowl(x)


@pytest.mark.parametrize("cancel", [True, False])
@pytest.mark.parametrize(
    "algorithm",
    [search.asracos(in_flight=2), search.asracos(in_flight=60), search.random_search(20)],
    ids=["few", "all", "batch"],
)
def test_an_executor_that_is_shut_down_ends_the_search_with_what_was_found(algorithm, cancel):
    fun = Shuts(cancel_futures=cancel)
    result = returned_within(30, lambda: run(fun, algorithm=algorithm, executor=fun.pool))
    assert result.message.startswith("executor was shut down")
    assert 4 <= result.evaluations and result.failures == 0
    if cancel or algorithm.in_flight == 2:
        assert result.evaluations < 60
    assert result.best_value == result.history.values.min()


def test_evaluations_that_never_end_are_left_when_the_executor_is_shut_down(monkeypatch):
    monkeypatch.setattr(evaluator, "GRACE", 0.2)
    hangs = threading.Event()
    for algorithm in (search.asracos(in_flight=2), search.random_search(20)):
        fun = Shuts(hangs, cancel_futures=True)
        call = partial(run, fun, algorithm=algorithm, executor=fun.pool)
        try:
            result = returned_within(30, call)
        finally:
            hangs.set()
        assert result.message.startswith("executor was shut down") and result.evaluations == 4
        hangs.clear()


def test_an_executor_that_takes_nothing():
    pool = ThreadPoolExecutor(2)
    pool.shutdown()
    remedy = "which was shut down: keep it open until the search returns"
    with pytest.raises(ValueError, match=remedy):
        run(host_bowl, algorithm=search.asracos(), executor=pool)

    class Closes(Executor):
        _shutdown = False

        def submit(self, fun, /, *args, **kwargs):
            self._shutdown = self.knows
            raise RuntimeError("closed")

    closes = Closes()
    closes.knows = True  # as when a pool is shut down while the first program is compiled
    result = run(host_bowl, algorithm=search.random_search(4), executor=closes)
    assert result.message == "executor was shut down: closed" and result.evaluations == 0
    closes = Closes()
    closes.knows = False
    with pytest.raises(RuntimeError, match="closed"):
        run(host_bowl, algorithm=search.random_search(4), executor=closes)


@pytest.mark.parametrize("algorithm", [search.asracos(in_flight=3), search.random_search(4)])
def test_time_bounds_the_wait_for_an_executor(algorithm):
    never = Ends(4, Future.set_running_or_notify_cancel)
    options = {"algorithm": algorithm, "executor": never, "time_budget": 1.0}
    result = returned_within(30, partial(run, host_bowl, **options))
    assert result.message == "time budget of 1 s spent" and result.evaluations == 4
    assert result.best_value == result.history.values.min()


@pytest.mark.parametrize("algorithm", [search.asracos(in_flight=3), search.random_search(4)])
def test_cancelled_evaluations_end_the_search(algorithm):
    options = {"algorithm": algorithm, "executor": Ends(4, Future.cancel), "repeats": 2}
    result = returned_within(30, partial(run, host_bowl, **options))
    assert result.message == "executor cancelled an evaluation" and result.evaluations == 4


def test_a_batch_keeps_values_that_came_before_the_executor_broke():
    result = run(host_bowl, algorithm=search.random_search(30), executor=Ends(20, fails))
    assert result.evaluations == 20 and result.best_value == result.history.values.min()


def test_a_timeout_or_cancellation_of_the_function_itself_is_a_failure():
    from concurrent.futures import CancelledError

    for error in (TimeoutError, CancelledError):

        def fails(x, error=error):
            if x[0] > 0:
                raise error
            return host_bowl(x)

        with ThreadPoolExecutor(2) as pool, pytest.warns(UserWarning, match=error.__name__):
            result = run(fails, algorithm=search.asracos(in_flight=2), executor=pool)
        assert result.evaluations == 60 and 0 < result.failures < 60
