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
    rows, quiet = [], warnings.catch_warnings(action="ignore")  # a function compiles in every call
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(2) as executor, quiet:
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
    repeated = _estimation(folder / "run.log") | _searches(executor) | _attacks()
    new, few = _new_functions(), min(FRESH, calls)
    every = repeated | new
    return {name: (call, few if name in new else calls) for name, call in every.items()}


X, ESTIMATOR, SPACE = np.ones(4, np.float32), zojax.estimator(), {"x": search.uniform(-1, 1, (2,))}
TX = zojax.zeroth_order(optax.adam(0.1))


def _loss(params):
    return jnp.sum(params**2)


def _host_loss(params):
    """A loss that JAX cannot trace."""
    return float(np.sum(np.asarray(params) ** 2))


def _search(fun, algorithm, **options):
    return search.minimize(fun, SPACE, algorithm, budget=10, key=0, **options)


def _estimation(log: Path) -> dict[str, Callable]:
    tx, x, state = TX, jnp.asarray(X), TX.init(X)

    def ask_tell():
        points, asked = ESTIMATOR.ask(0, x)
        return ESTIMATOR.tell(asked, np.sum(np.asarray(points) ** 2, axis=1))

    def record():
        log.unlink(missing_ok=True)
        with trajectory.Recorder(log, tx, x) as recorder:
            recorder.append(tx.update(None, state, x, value_fn=_loss)[1])
        return trajectory.load(log)

    return {
        "estimate": lambda: ESTIMATOR.estimate(0, _loss, x),
        "value_and_grad": lambda: zojax.value_and_grad(_loss, ESTIMATOR)(0, x),
        "ask / tell": ask_tell,
        "update": lambda: tx.update(None, state, x, value_fn=_loss),
        "minimize": lambda: zojax.minimize(_loss, x, tx, 5),
        "minimize, on the host": lambda: zojax.minimize(_host_loss, x, tx, 2, jit=False),
        "Recorder and load": record,
    }


def _searches(executor) -> dict[str, Callable]:
    def host(point):
        return float(np.sum(point["x"] ** 2))

    some = search.asracos(in_flight=2)
    return {
        "search.minimize, on the host": lambda: _search(host, search.sracos(), jit=False),
        "search.minimize, executor": lambda: _search(host, some, executor=executor),
    }


def _attacks() -> dict[str, Callable]:
    images, labels = np.full((2, 4, 4), 0.5, np.float32), np.array([0, 1])

    def scores(images):
        total = images.sum((1, 2))
        return jnp.stack([total, 16 - total], axis=1)

    def attack(jit):
        return attacks.square(0, scores, images, labels, 0.3, budget=5, jit=jit)

    return {"attack": lambda: attack(True), "attack, on the host": lambda: attack(False)}


def _new_functions() -> dict[str, Callable]:
    """Each call compiles a function of its own."""
    tx, x, state = TX, jnp.asarray(X), TX.init(X)

    def new():
        return lambda params: jnp.sum(params**2)

    return {
        "estimate, a function each": lambda: ESTIMATOR.estimate(0, new(), x),
        "update, a function each": lambda: tx.update(None, state, x, value_fn=new()),
        "minimize, a function each": lambda: zojax.minimize(new(), x, tx, 5),
        "search.minimize, a function each": lambda: _search(
            lambda point: jnp.sum(point["x"] ** 2), search.sracos()
        ),
        "zeroth_order, one each": lambda: zojax.zeroth_order(optax.adam(0.1)).init(x),
    }
