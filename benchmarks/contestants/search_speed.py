"""Evaluations a second of a search of Ackley's function: a step is a whole run, compiled before.

zoopt, and zojax with the same NumPy function, run a slice of the budget.
"""

import jax.numpy as jnp

from benchmarks import problems
from benchmarks.contestants import Host
from benchmarks.contestants.searches import play
from zojax import search

SEVERAL = 2000  # evaluations of each of several runs


def build(work, algorithm, runs=1):
    """`runs`: side by side in one call; 0 is one run of a NumPy function."""
    problem = problems.continuous("ackley", work.dim)
    if algorithm == "zoopt":
        return _zoopt(work, problem)
    made = {
        "sracos(parity=True)": search.sracos(parity=True),
        "sracos": search.sracos(),
        "default": search.portfolio(),
    }[algorithm]
    budget = work.budget if runs == 1 else SEVERAL if runs else work.slice
    space, options = search.uniform(-1, 1, (work.dim,)), {"repeats": runs}
    function = lambda x: problems.ackley(x - 0.2, jnp)  # noqa: E731
    if not runs:
        function, options = problem.host(0), {"jit": False}

    def run():
        return search.minimize(function, space, made, budget=budget, key=0, **options).run_values

    return Host(run, amount=budget * max(runs, 1))


def _zoopt(work, problem):
    from benchmarks.contestants.searches import zoopt

    fun = problem.objective(0)
    return Host(lambda: play(zoopt.run, fun, problem.box, work.slice, 0), amount=work.slice)
