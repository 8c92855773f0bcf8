"""Pools that are made again: processes kill themselves, hang, and are counted."""

import os
import threading
import time
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from multiprocessing import get_context

import numpy as np
import pytest

from tests.executors import _workers
from zojax import executors
from zojax._evaluation import evaluator

POINTS = [0.1, 0.7, 0.2, -0.8, 0.3, 0.4]


def pool_of(workers):
    return ProcessPoolExecutor(workers, get_context("spawn"))


def is_gone(process, seconds=20):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize(
    "workers, count", [(1, 2), pytest.param(2, 1, marks=pytest.mark.slow)], ids=["two", "shared"]
)
def test_a_dead_worker_is_replaced_and_its_call_made_again(tmp_path, workers, count):
    fun = partial(_workers.deadly, folder=str(tmp_path))
    points = [x for x in POINTS if x > _workers.HANGS]
    with executors.restarted(partial(pool_of, workers), count) as pool:
        assert pool.num_workers == 2
        values = executors.evaluate(fun, points, pool)
    np.testing.assert_array_equal(values, list(map(_workers.bowl, points)))
    assert [x for _, x in _workers.calls(tmp_path, "killed")] == [0.7]
    assert sorted(x for _, x in _workers.calls(tmp_path, "end")) == sorted(points)
    processes = {process for process, _ in _workers.calls(tmp_path, "end")}
    assert all(map(is_gone, processes))


def test_a_worker_ends_its_own_late_call_and_goes_on():
    with executors.restarted(partial(pool_of, 1)) as pool:
        before = pool.submit(_workers.sleepy, 0.5).result()[1]
        with pytest.warns(UserWarning, match="1 of 2 evaluations failed .* more than 0.5 s"):
            values = executors.evaluate(first_of_sleepy, [-0.8, 0.1], pool, timeout=0.5)
        assert pool.submit(_workers.sleepy, 0.5).result()[1] == before
    assert np.isnan(values[0]) and values[1] == _workers.bowl(0.1)


def first_of_sleepy(x):
    return _workers.sleepy(x)[0]


def test_a_cancelled_call_ends_while_it_runs(tmp_path):
    with executors.restarted(partial(pool_of, 1)) as pool:
        hangs = pool.submit(_workers.deadly, -0.8, str(tmp_path))
        while not _workers.calls(tmp_path, "hung"):
            time.sleep(0.02)
        ((process, _),) = _workers.calls(tmp_path, "hung")
        waits = pool.submit(abs, -3)
        assert hangs.cancel() and hangs.cancelled() and waits.result() == 3
        assert is_gone(process)


def test_a_worker_that_has_started_needs_no_time_to_start(monkeypatch):
    monkeypatch.setattr(evaluator, "ALARM", 0.5)
    ends, began = threading.Event(), time.monotonic()
    factory = partial(ThreadPoolExecutor, 1)
    with executors.restarted(factory, kill=lambda pool: pool.shutdown(wait=False)) as pool:
        with pytest.warns(UserWarning, match="1 of 3 evaluations failed .* more than 0.2 s"):
            values = executors.evaluate(
                lambda x: ends.wait() if x == 1 else x, [0, 1, 2], pool, timeout=0.2
            )
        assert time.monotonic() - began < pool.start_seconds / 2
    ends.set()
    np.testing.assert_array_equal(values, [0, np.nan, 2])


@pytest.mark.slow
def test_a_call_that_always_kills_its_worker_fails_alone(tmp_path):
    """Seven calls share a pool with it, and none of them is blamed."""
    fun = partial(_workers.own_process, folder=str(tmp_path))
    points = [0.7, *np.linspace(-0.5, 0.5, 15)]
    with executors.restarted(partial(pool_of, 4), retries=2) as pool:
        with pytest.warns(UserWarning, match="1 of 16 .*the worker died in each of 3 attempts"):
            values = executors.evaluate(fun, points, pool)
    np.testing.assert_array_equal(values, [np.nan, *map(_workers.bowl, points[1:])])


def test_the_factory_and_its_settings_are_checked():
    with pytest.raises(TypeError, match="factory must make a pool, got <concurrent"):
        executors.restarted(ThreadPoolExecutor(1))
    with pytest.raises(TypeError, match="factory must return a pool of concurrent.futures, got 3"):
        executors.restarted(lambda: 3)
    with pytest.raises(ValueError, match="count must be an int from 1 on, got 0"):
        executors.restarted(ThreadPoolExecutor, 0)
    with pytest.raises(ValueError, match="retries must be an int from 0 on, got -1"):
        executors.restarted(ThreadPoolExecutor, retries=-1)


def test_a_factory_that_fails_later_ends_all_calls():
    made = iter([ThreadPoolExecutor(1)])
    pool = executors.restarted(lambda: next(made))
    hangs, waits = pool.submit(time.sleep, 0.5), pool.submit(abs, -3)
    hangs.cancel()
    with pytest.raises(BrokenExecutor, match="a pool could not be made again: StopIteration"):
        waits.result(20)
    with pytest.raises(BrokenExecutor, match="StopIteration"):
        pool.submit(abs, -3)


def test_a_shutdown_waits_for_calls_and_cancels_those_that_wait():
    with executors.restarted(lambda: ThreadPoolExecutor(1)) as pool:
        runs = pool.submit(time.sleep, 0.1)
    assert runs.done() and not runs.cancelled()
    pool = executors.restarted(lambda: ThreadPoolExecutor(1))
    runs, waits = pool.submit(time.sleep, 0.2), pool.submit(abs, -3)
    pool.shutdown(cancel_futures=True)
    assert runs.done() and waits.cancelled()
    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
        pool.submit(abs, -3)
