"""A search on MPI ranks: `mpiexec -n 3 python -m mpi4py.futures -m tests.executors._mpi`."""

import numpy as np

from tests.executors import _workers
from zojax import search
from zojax._evaluation import workers_of


def value(x):
    return _workers.sleepy(x)[0]


if __name__ == "__main__":
    from mpi4py.futures import MPIPoolExecutor

    with MPIPoolExecutor() as pool:
        workers = workers_of(pool)
        found = search.minimize(
            value,
            *(search.uniform(-1, 1), search.random_search(8)),
            **{"budget": 24, "key": 3, "executor": pool, "timeout": 1.0},
        )
    points = found.history.points
    expected = np.where(points < _workers.HANGS, np.inf, _workers.bowl(points))
    np.testing.assert_array_equal(found.history.values, expected)
    print(workers, found.evaluations, found.failures, int((points < _workers.HANGS).sum()))
