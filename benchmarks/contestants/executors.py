"""Trivial evaluations on a warm executor with two workers. A step is a search of so many evaluations.

"alone" hands the same calls to the executor without a search, as many at once as it has workers. CPU time
is that of this process and of all that it started.
"""

import atexit
import os
import statistics
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from functools import partial
from multiprocessing import get_context
from queue import SimpleQueue
from typing import Any

from benchmarks.contestants import Host
from zojax import executors, search
from zojax._evaluation.call import Call

WORKERS = 2
SPACE = search.uniform(-1, 1)


def trivial(x: float, worker: Any = None) -> float:
    return (x - 0.3) ** 2


def build(work, algorithm=None):
    import psutil

    with ExitStack() as stack:
        pool = stack.enter_context(EXECUTORS[work.executor](stack))
        atexit.register(stack.pop_all().close)
    made = {"batches": search.random_search(16), "asracos": search.asracos(in_flight=8)}
    here, processes, spent = psutil.Process(), [], []

    def cpu() -> dict:
        seconds = {}
        for process in processes:
            with suppress(psutil.NoSuchProcess):  # it has ended
                seconds[process] = sum(process.cpu_times()[:2])
        return seconds

    def run():
        begin = cpu()
        if algorithm is None:
            _alone(pool, work.calls)
        else:
            options = {"budget": work.calls, "key": 0, "executor": pool}
            search.minimize(trivial, SPACE, made[algorithm], **options)
        end = cpu()
        spent.append(sum(end[process] - begin[process] for process in end))
        if not processes:  # the first step has started them
            processes.extend([here, *here.children(recursive=True)])

    return Host(run, work.calls, lambda: {"cpu_seconds": statistics.mean(spent[1:])})


def _alone(pool: Executor, calls: int) -> None:
    done, call, left = SimpleQueue(), Call(trivial), calls
    for _ in range(WORKERS):
        pool.submit(call, 0.5).add_done_callback(done.put)
    for _ in range(calls):
        done.get().result()
        left -= 1
        if left >= WORKERS:
            pool.submit(call, 0.5).add_done_callback(done.put)


def _processes() -> Executor:
    return ProcessPoolExecutor(1, get_context("spawn"))


def _loky(_: ExitStack) -> Executor:
    from loky import get_reusable_executor

    return executors.restarted(lambda: get_reusable_executor(WORKERS, timeout=600))


def _dask(stack: ExitStack) -> Executor:
    from distributed import Client, LocalCluster

    cluster = LocalCluster(n_workers=WORKERS, threads_per_worker=1, dashboard_address=None)
    return stack.enter_context(Client(stack.enter_context(cluster))).get_executor()


def _ray(_: ExitStack, actors: bool = False) -> Executor:
    import ray

    patient = {"RAY_raylet_start_wait_time_s": "300", "RAY_agent_register_timeout_ms": "300000"}
    os.environ |= patient  # the machine may be busy
    ray.init(num_cpus=WORKERS, include_dashboard=False, log_to_driver=False)
    atexit.register(ray.shutdown)
    return executors.ray_actors(dict, WORKERS) if actors else executors.ray()


EXECUTORS: dict[str, Callable[[ExitStack], Executor]] = {
    "threads": lambda _: ThreadPoolExecutor(WORKERS),
    "processes": lambda _: executors.restarted(_processes, WORKERS),
    "loky": _loky,
    "Dask": _dask,
    "Ray": _ray,
    "Ray actors": partial(_ray, actors=True),
}
