"""Growth after a thousand calls of each entry point: arrays, memory maps of programs, files, threads."""

import gc
import os
import tempfile
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

import zojax
from zojax import attacks, search, trajectory

WARM_UP = 20  # calls, after which nothing should grow
FRESH = 20  # new functions, each compiled; a dropped function must leave nothing behind


def resources() -> dict[str, int]:
    """Counts of this process, garbage collected."""
    gc.collect()
    return {
        "arrays": len(jax.live_arrays()),
        "memory maps": len(Path("/proc/self/maps").read_text().splitlines()),
        "files": len(os.listdir("/proc/self/fd")),
        "threads": threading.active_count(),
        "objects": len(gc.get_objects()),
    }


def leaks(calls: int) -> list[dict]:
    """A row for each entry point: the growth of each count."""
    rows = []
    with (
        tempfile.TemporaryDirectory() as folder,
        ThreadPoolExecutor(2) as executor,
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")  # that a function compiles in every call
        for entry_point, (call, times) in entry_points(Path(folder), executor, calls).items():
            for _ in range(WARM_UP if times > FRESH else 3):
                call()
            before = resources()
            for _ in range(times):
                call()
            after = resources()
            grown = {name: after[name] - before[name] for name in before}
            rows.append({"entry point": entry_point, "calls": times} | grown)
    return rows


def entry_points(folder: Path, executor, calls: int) -> dict[str, tuple[Callable, int]]:
    """Calls by name, with their number."""
    x, estimator, tx = jnp.ones(4), zojax.estimator(), zojax.zeroth_order(optax.adam(0.1))
    state, space = tx.init(x), {"x": search.uniform(-1, 1, (2,))}
    images = np.full((2, 4, 4), 0.5, np.float32)
    labels, log = np.array([0, 1]), folder / "run.log"

    def loss(params):
        return jnp.sum(params**2)

    def scores(images):
        total = images.sum((1, 2))
        return jnp.stack([total, 16 - total], axis=1)

    def ask_tell():
        points, asked = estimator.ask(0, x)
        return estimator.tell(asked, np.sum(np.asarray(points) ** 2, axis=1))

    def record():
        log.unlink(missing_ok=True)
        with trajectory.Recorder(log, tx, x) as recorder:
            recorder.append(tx.update(None, state, x, value_fn=loss)[1])
        return trajectory.load(log)

    def searched(fun, algorithm, **options):
        return search.minimize(fun, space, algorithm, budget=10, key=0, **options)

    def host(point):
        return float(np.sum(point["x"] ** 2))

    def attack(jit):
        return attacks.square(0, scores, images, labels, 0.3, budget=5, jit=jit)

    same = {
        "estimate": lambda: estimator.estimate(0, loss, x),
        "value_and_grad": lambda: zojax.value_and_grad(loss, estimator)(0, x),
        "ask / tell": ask_tell,
        "update": lambda: tx.update(None, state, x, value_fn=loss),
        "minimize": lambda: zojax.minimize(loss, x, tx, 5),
        "minimize, on the host": lambda: zojax.minimize(host_loss, x, tx, 2, jit=False),
        "Recorder and load": record,
        "search.minimize, on the host": lambda: searched(host, search.sracos(), jit=False),
        "search.minimize, executor": lambda: searched(
            host, search.asracos(in_flight=2), executor=executor
        ),
        "attack": lambda: attack(True),
        "attack, on the host": lambda: attack(False),
    }
    fresh = {
        "estimate, a function each": lambda: estimator.estimate(0, lambda p: jnp.sum(p**2), x),
        "update, a function each": lambda: tx.update(
            None, state, x, value_fn=lambda p: jnp.sum(p**2)
        ),
        "minimize, a function each": lambda: zojax.minimize(lambda p: jnp.sum(p**2), x, tx, 5),
        "search.minimize, a function each": lambda: searched(
            lambda p: jnp.sum(p["x"] ** 2), search.sracos()
        ),
        "zeroth_order, one each": lambda: zojax.zeroth_order(optax.adam(0.1)).init(x),
    }
    return {name: (call, calls) for name, call in same.items()} | {
        name: (call, min(FRESH, calls)) for name, call in fresh.items()
    }


def host_loss(params):
    """A loss that JAX cannot trace."""
    return float(np.sum(np.asarray(params) ** 2))
