"""Timeouts, retries and bounds of evaluations, in this thread and in threads."""

import contextlib
import math
import threading
import time
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial

import jax.numpy as jnp
import numpy as np
import pytest

import zojax
from zojax import attacks, executors, search

SPACE = search.uniform(-1, 1)
BATCHES = search.random_search(4)
X0 = jnp.array([0.0, 1.0])
TX = zojax.zo_sgd(0.1, zojax.estimator(mu=0.1, num_directions=3), key=1)


def bowl(x):
    return float(np.sum((np.asarray(x) - 0.3) ** 2))


def run(fun, algorithm=BATCHES, budget=12, **options):
    return search.minimize(fun, SPACE, algorithm, budget=budget, key=0, jit=False, **options)


def at_calls(numbers, act, fun=bowl):
    """A function that acts in some of its calls, counted from 0, and then returns."""
    seen, lock = [], threading.Lock()

    def counted(x, *rest):
        with lock:
            number = len(seen)
            seen.append(x)
        if number in numbers:
            act()
        return fun(x, *rest)

    counted.seen = seen
    return counted


def hang():
    time.sleep(10_000)


@pytest.mark.filterwarnings("ignore:an evaluation failed")
def test_a_call_that_hangs_ends_and_is_reported():
    fun, began = at_calls({5}, hang), time.monotonic()
    found, calm = run(fun, timeout=0.3), run(bowl)
    assert time.monotonic() - began < 60 and len(fun.seen) == found.evaluations == 12
    assert found.failures == 1 and found.history.values[5] == np.inf
    assert found.history.errors == {5: "TimeoutError: the evaluation took more than 0.3 s"}
    others = np.arange(12) != 5
    np.testing.assert_array_equal(found.history.values[others], calm.history.values[others])


def test_a_call_that_hangs_is_made_again():
    fun = at_calls({2, 7}, hang)
    found = run(fun, timeout=0.2, retries=1)
    assert found.failures == 0 and len(fun.seen) == 14
    np.testing.assert_array_equal(found.history.values, run(bowl).history.values)


def test_an_alarm_rings_until_the_call_ends():
    def stubborn():
        for _ in range(2):
            try:
                hang()
            except Exception:
                pass

    with pytest.warns(UserWarning, match="TimeoutError"):
        found = run(at_calls({1}, lambda: (stubborn(), hang())), budget=2, timeout=0.1)
    assert found.failures == 1


def test_time_is_kept_while_a_call_runs():
    fun, began = at_calls({5}, hang), time.monotonic()
    found = run(fun, budget=1000, time_budget=0.8)
    assert time.monotonic() - began < 30 and found.message == "time budget of 0.8 s spent"
    assert found.evaluations == 5 and found.failures == 0
    late = run(at_calls({0}, hang), time_budget=0.1)  # not even one evaluation
    assert late.message == "time budget of 0.1 s spent" and late.evaluations == 0


def test_failures_are_retried_but_for_those_in_catch():
    def flaky():
        raise OSError("no connection")

    fun = at_calls({0, 1, 4, 9}, flaky)
    found = run(fun, retries=2)
    assert found.failures == 0 and len(fun.seen) == 16 and found.evaluations == 12
    fun = at_calls({0, 1, 4, 9}, flaky)
    with pytest.warns(UserWarning, match="no connection"):
        found = run(fun, retries=2, catch=(OSError,))
    assert found.failures == 4 and len(fun.seen) == 12
    fun = at_calls(set(range(100)), flaky)
    with pytest.raises(OSError, match="no connection"), pytest.warns(UserWarning):
        run(fun, retries=1)
    assert len(fun.seen) == 20  # ten evaluations that fail alike


@pytest.mark.parametrize("algorithm", [BATCHES, search.asracos(in_flight=4)])
def test_retries_on_an_executor_lose_and_repeat_nothing(algorithm):
    def flaky():
        raise OSError("no connection")

    fun = at_calls({0, 3, 8}, flaky)
    with ThreadPoolExecutor(3) as pool:
        found = run(fun, algorithm, executor=pool, retries=3)
    assert found.failures == 0 and found.evaluations == 12 and len(fun.seen) == 15
    assert len({float(x) for x in found.history.points}) == 12


@pytest.mark.filterwarnings("ignore:an evaluation failed")
def test_a_late_thread_keeps_its_worker_and_two_of_two_end_the_search():
    one, two = threading.Event(), threading.Event()
    with ThreadPoolExecutor(2) as pool, contextlib.ExitStack() as at_exit:
        at_exit.callback(one.set)
        at_exit.callback(two.set)
        found = run(at_calls({4}, one.wait), budget=8, executor=pool, timeout=1.0)
        (late,) = found.history.errors
        assert found.evaluations == 8 and late in (4, 5)  # two calls begin at once
        one.set()
        found = run(at_calls({4, 5}, two.wait), budget=80, executor=pool, timeout=1.0)
    assert "each worker has a late call: pass executors.restarted(...)" in found.message
    assert 4 < found.evaluations < 80


class Bounded(Executor):
    """Three threads that refuse a fourth call at once."""

    num_workers = 3

    def __init__(self):
        self.pool, self.lock, self.calls, self.most = ThreadPoolExecutor(3), threading.Lock(), 0, 0

    def submit(self, fun, /, *args, **kwargs):
        with self.lock:
            self.calls += 1
            self.most = max(self.most, self.calls)
        future = self.pool.submit(fun, *args, **kwargs)
        future.add_done_callback(self._ended)
        return future

    def _ended(self, future):
        with self.lock:
            self.calls -= 1


@pytest.mark.parametrize(
    "algorithm", [search.random_search(50), search.asracos(in_flight=20)], ids=["batch", "flight"]
)
def test_calls_in_flight_are_at_most_the_workers(algorithm):
    pool = Bounded()
    assert run(bowl, algorithm, budget=100, executor=pool).evaluations == 100
    assert pool.most == 3
    pool.pool.shutdown()


def test_a_function_that_cannot_be_sent_is_refused_before_the_first_call():
    lock = threading.Lock()
    with ProcessPoolExecutor(1) as pool:
        for call in (
            lambda: run(lambda x: bowl(x), executor=pool, catch=(Exception,)),
            lambda: run(bowl, executor=executors.restarted(lambda: pool), args=(lock,)),
            lambda: zojax.minimize(lambda x: bowl(x), X0, TX, 2, jit=False, executor=pool),
            lambda: executors.evaluate(lambda x: bowl(x), [1.0], pool),
        ):
            with pytest.raises(TypeError, match="fun, its args and its values must be picklable"):
                call()
        assert not pool._processes


class Client:
    """The part of a Dask client that looks like an executor."""

    def submit(self, fun, *args):
        return object()

    def get_executor(self):
        return ThreadPoolExecutor()


class Remote(Executor):
    """An executor whose `submit` returns no future, as Ray's references are none."""

    def submit(self, fun, /, *args, **kwargs):
        return object()


def test_objects_that_are_no_executors_are_refused():
    with pytest.raises(TypeError, match=r"pass client.get_executor\(\)"):
        run(bowl, executor=Client())
    with pytest.raises(TypeError, match="submit must return a future of concurrent.futures"):
        run(bowl, executor=Remote())


@pytest.mark.parametrize(
    "options, error",
    [
        ({"timeout": 0}, "timeout must be positive seconds or None, got 0"),
        ({"timeout": math.nan}, "timeout must be positive seconds or None, got nan"),
        ({"timeout": "1"}, "timeout must be positive seconds or None, got '1'"),
        ({"retries": -1}, "retries must be an int from 0 on, got -1"),
        ({"retries": 1.5}, "retries must be an int from 0 on, got 1.5"),
    ],
)
def test_limits_are_checked(options, error):
    images = np.full((2, 3, 3), 0.5)
    for call in (
        lambda: run(bowl, **options),
        lambda: zojax.minimize(bowl, X0, TX, 2, jit=False, **options),
        lambda: executors.evaluate(bowl, [1.0], **options),
        lambda: attacks.nes(0, bowl, images, np.zeros(2, int), 0.1, jit=False, **options),
    ):
        with pytest.raises(ValueError, match=error):
            call()


def test_limits_are_for_the_host():
    attack = 0, bowl, np.full((2, 3, 3), 0.5), np.zeros(2, int), 0.1
    for name, value in {"timeout": 1.0, "retries": 2}.items():
        for call in (
            partial(search.minimize, bowl, SPACE, budget=9, key=0, jit=True),
            partial(zojax.minimize, bowl, X0, TX, 2),
            partial(attacks.nes, *attack),
        ):
            with pytest.raises(ValueError, match=f"{name} is for .* pass jit=False with it"):
                call(**{name: value})
    with pytest.raises(ValueError, match="batched and timeout exclude one another"):
        run(bowl, batched=True, timeout=1.0)


def test_a_timeout_needs_an_executor_outside_the_main_thread():
    errors = []

    def call():
        try:
            run(bowl, timeout=1.0)
        except ValueError as error:
            errors.append(str(error))

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    assert "needs an executor outside the main thread" in errors[0]
    assert "pass executor=zojax.executors.restarted(...)" in errors[0]


def test_late_evaluations_of_a_step_leave_their_directions_out():
    def run(fun, **options):
        return zojax.minimize(fun, X0, TX, 2, jit=False, **options)

    found = run(at_calls({2}, hang), timeout=0.3)
    assert found.skipped == 1 and "1 evaluations raised, the last TimeoutError" in found.message
    calm = run(bowl)
    again = run(at_calls({2, 5}, hang), timeout=0.2, retries=1)
    np.testing.assert_array_equal(again.params, calm.params)
    ends = threading.Event()
    with ThreadPoolExecutor(2) as pool:
        late = run(at_calls({2}, ends.wait), timeout=0.3, executor=pool)
        ends.set()
        many = run(at_calls({0, 4}, lambda: 1 / 0), retries=2, executor=pool)
    np.testing.assert_array_equal(late.params, found.params)
    np.testing.assert_array_equal(many.params, calm.params)
    with pytest.raises(ZeroDivisionError) as raised:
        run(at_calls({7}, lambda: 1 / 0))
    assert raised.value.partial_result.steps == 1


def test_evaluate_keeps_the_order_and_reports_failures():
    points = np.linspace(-1, 1, 9)

    def late_first(x):
        time.sleep(0.02 * (x < -0.5))
        return bowl(x)

    with ThreadPoolExecutor(3) as pool:
        values = executors.evaluate(late_first, points, pool)
        np.testing.assert_array_equal(values, list(map(bowl, points)))
        with pytest.raises(ZeroDivisionError):
            executors.evaluate(at_calls({3}, lambda: 1 / 0), points, pool)
    with pytest.warns(UserWarning, match="1 of 9 evaluations failed and count as nan: Zero"):
        fun = at_calls({3}, lambda: 1 / 0)
        values = executors.evaluate(fun, points, catch=(ZeroDivisionError,))
    assert np.flatnonzero(np.isnan(values)).tolist() == [3]
    with pytest.raises(TypeError, match="fun must return a real number"):
        executors.evaluate(lambda x: None, points)


def test_an_interrupt_cancels_all_that_has_not_begun():
    """And, where the executor can, all that runs."""

    class Interrupts(Executor):
        num_workers = 4

        def __init__(self):
            self.futures = []

        def submit(self, fun, /, *args, **kwargs):
            if len(self.futures) == 3:
                raise KeyboardInterrupt
            self.futures.append(Future())
            return self.futures[-1]

    pool = Interrupts()
    with pytest.raises(KeyboardInterrupt):
        run(bowl, executor=pool)
    assert [future.cancelled() for future in pool.futures] == [True] * 3
