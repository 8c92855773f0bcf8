"""The share of BBOB targets solved: 24 functions, d = 5, 20, 40, at 10 d, 100 d and 1000 d evaluations."""

import fnmatch
import time
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import bbob
from benchmarks.measure import markdown
from benchmarks.peers.__main__ import load
from zojax import search


def contestants() -> dict[str, search.Algorithm]:
    return {
        "zojax default": search.portfolio(),
        "zojax sracos": search.sracos(),
        "zojax coordinate_reset": search.coordinate_reset(),
    }


def solved(algorithm: search.Algorithm, dim: int, instances: int) -> dict[str, np.ndarray]:
    """Targets reached at each checkpoint, averaged over instances, by function.

    All functions share one program: which one is evaluated is an argument of it.
    """
    space, budget = search.space(search.uniform(-5, 5, (dim,))), 1000 * dim
    branches = [partial(bbob.value, name, dim) for name in bbob.FUNCTIONS]

    def run(which, key, params):
        def step(carry, _):
            state, best = carry
            x, state = algorithm.ask(space, state)
            value = partial(jax.lax.switch, which, branches)
            values = jnp.stack([value(space.decode(row), params) for row in x])
            state = algorithm.tell(space, state, x, values)
            best = jnp.minimum(best, jax.lax.cummin(values))
            return (state, best[-1]), best

        start = algorithm.init(key, space, budget), jnp.asarray(jnp.inf)
        return jax.lax.scan(step, start, length=budget // algorithm.batch_size)[1].reshape(-1)

    @jax.jit
    def every(which, keys, params):
        return jax.lax.map(lambda one: run(which, *one), (keys, params))

    keys, found = jax.vmap(jax.random.key)(jnp.arange(instances)), {}
    for which, name in enumerate(bbob.FUNCTIONS):
        params = [bbob.instance(name, dim, i) for i in range(instances)]
        best = every(which, keys, jax.tree.map(lambda *p: jnp.stack(p), *params))
        found[name] = np.mean([bbob.solved(b, dim) for b in np.asarray(best)], axis=0)
    return found


def rows(arguments) -> list[dict]:
    """One row a method and dimension: the share of (function, target) pairs solved, and the curves."""
    found = []
    for dim in arguments.dims[: 1 if arguments.quick else None]:
        for name, algorithm in contestants().items():
            if not fnmatch.fnmatch(name, arguments.methods):
                continue
            began = time.perf_counter()
            with jax.enable_x64(True):
                by_function = solved(algorithm, dim, arguments.instances)
            seconds = time.perf_counter() - began
            found.append(_row(dim, name, arguments.instances, by_function, seconds))
        peers = {}
        for (problem, peer), row in load().items():
            if problem.startswith("bbob") and problem.endswith(f"-{dim}") and "solved" in row:
                peers.setdefault(peer, {})[problem[5:].rsplit("-", 1)[0]] = row
        for peer, runs in peers.items():
            curves = {name: np.array(row["solved"]) for name, row in runs.items()}
            seeds = min(row["seeds"] for row in runs.values())
            seconds = sum(row["seconds"] for row in runs.values())
            limit = min(row["budget"] for row in runs.values()) / dim
            found.append(_row(dim, peer, seeds, curves, seconds, limit))
        print("\n" + markdown([_shown(row) for row in found if row["d"] == dim]), flush=True)
    return found


def _row(dim, method, instances, by_function, seconds, limit=1000.0) -> dict:
    """`limit`: evaluations / dimension of a run; beyond it nothing is claimed."""
    kept = bbob.CHECKPOINTS <= limit
    count = len(bbob.TARGETS)
    mean = np.mean(list(by_function.values()), axis=0) / count
    return {
        "d": dim,
        "method": method,
        "functions": len(by_function),
        "instances": instances,
        "at": bbob.CHECKPOINTS[kept].tolist(),
        "share": np.round(mean[kept], 4).tolist(),
        "by function": {
            name: [_at(curve / count, budget, limit) for budget in bbob.BUDGETS]
            for name, curve in by_function.items()
        },
        "seconds": seconds,
    }


def _at(curve, budget, limit) -> float | None:
    here = np.flatnonzero(bbob.CHECKPOINTS <= budget)[-1]
    return round(float(curve[here]), 4) if budget <= limit else None


def _shown(row) -> dict:
    at = {f"{budget} d": "" for budget in bbob.BUDGETS}
    for budget in bbob.BUDGETS:
        if budget <= row["at"][-1]:
            here = np.flatnonzero(np.array(row["at"]) <= budget)[-1]
            at[f"{budget} d"] = f"{100 * row['share'][here]:.1f} %"
    keys = ("d", "method", "functions", "instances")
    return {key: row[key] for key in keys} | at | {"seconds": row["seconds"]}
