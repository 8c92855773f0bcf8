"""A search with a journal, in a process that a test kills.

    python -m tests.search.engine._killed FOLDER MODE

Each call of the function adds a line to `calls` before it waits.
"""

import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from functools import partial

import numpy as np

from zojax import search

BUDGET = 120
SPACE = {"x": search.uniform(-1, 1, (3,)), "kind": search.choice(["a", "b"])}
ALGORITHMS = {"alone": search.sracos(), "batch": search.random_search(7)}
ALGORITHMS["pool"] = search.asracos(in_flight=4)


def slow(calls, p):
    file = os.open(calls, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(file, f"{p['x'].tolist()} {p['kind']}\n".encode())
    os.close(file)
    time.sleep(0.005)
    return float(np.sum((p["x"] - 0.3) ** 2)) + (p["kind"] == "a")


def run(folder, mode, log=None):
    with ThreadPoolExecutor(4) if mode == "pool" else nullcontext() as pool:
        return search.minimize(
            partial(slow, os.path.join(folder, "calls")),
            *(SPACE, ALGORITHMS[mode]),
            **{"budget": BUDGET, "key": 0, "executor": pool, "log": log, "jit": False},
        )


if __name__ == "__main__":
    run(sys.argv[1], sys.argv[2], os.path.join(sys.argv[1], "log.jsonl"))
