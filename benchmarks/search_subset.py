"""POSS and PONSS on the sonar data (60 columns, at most 8): the true error of the subsets they return."""

import time

import jax
import numpy as np

from benchmarks import problems
from benchmarks.measure import markdown
from benchmarks.peers.__main__ import load
from zojax import search
from zojax.examples.subset import make_loss

K = 8


def rows(arguments) -> list[dict]:
    """Ours, zoopt's and greedy forward selection; noise multiplies every evaluation by 1 + .2 N(0, 1)."""
    task = problems.Regression(*problems.sonar(), K)
    loss = make_loss(task.columns, task.target, 2 * K)

    def noisy(chosen, key):
        return loss(chosen) * (1 + 0.2 * jax.random.normal(key))

    runs, found = 4 if arguments.quick else 16, []
    contestants = {
        "sonar k=8": {"zojax poss": search.poss(), "zojax pposs": search.pposs()},
        "sonar k=8 noise 0.2": {
            "zojax poss": search.poss(),
            "zojax ponss": search.ponss(0.5, noise="additive"),
        },
    }
    for problem, algorithms in contestants.items():
        loud = "noise" in problem
        for name, algorithm in algorithms.items():
            began = time.perf_counter()
            final = [
                task.host(
                    search.minimize(
                        noisy if loud else loss,
                        search.subset(60, max_size=K),
                        algorithm,
                        budget=task.budget,
                        key=seed,
                        with_key=loud,
                    ).best
                )
                for seed in range(runs)
            ]
            seconds = (time.perf_counter() - began) / runs
            found.append(_row(problem, name, final, seconds))
        for (where, name), row in load().items():
            if where == problem:
                found.append(_row(problem, name, row["final"], row["seconds"]))
    found.append(_row("sonar k=8", "greedy forward selection", [task.host(task.greedy())], None))
    print("\n" + markdown(found), flush=True)
    return found


def _row(problem, method, final, seconds) -> dict:
    return {
        "problem": problem,
        "method": method,
        "runs": len(final),
        "error": float(np.mean(final)),
        "sd": float(np.std(final)),
        "s / run": seconds,
    }
