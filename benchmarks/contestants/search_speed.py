"""Evaluations a second of a search: a step is a whole run, compiled before; its amount the evaluations.

zoopt, and zojax with the same NumPy function, run a slice of the budget.
"""

from functools import partial

import jax.numpy as jnp

from benchmarks import problems
from benchmarks.contestants import Host
from benchmarks.contestants.searches import play
from zojax import search
from zojax.examples.subset import make_loss

SEVERAL = 2000  # evaluations of each of several runs


def build(work, algorithm, runs=1):
    """`runs`: side by side in one call; 0 is one run of a NumPy function."""
    if algorithm == "zoopt":
        return _zoopt(work)
    made = {
        "sracos(parity=True)": search.sracos(parity=True),
        "sracos": search.sracos(),
        "default": search.portfolio(),
        "poss": search.poss(),
    }[algorithm]
    fun, host, space = _problem(work)
    budget = work.budget if runs == 1 or algorithm == "poss" else SEVERAL if runs else work.slice
    function, options = (fun, {"repeats": runs}) if runs else (host, {"jit": False})

    def run():
        return search.minimize(function, space, made, budget=budget, key=0, **options).run_values

    return Host(run, amount=budget * max(runs, 1))


def _problem(work):
    """The function for JAX, for NumPy, and its space."""
    if work.problem == "sonar":
        task = problems.subset(8)
        loss = make_loss(task.columns, task.target, 16)
        return loss, task.host, search.subset(work.dim, max_size=8)
    problem = problems.continuous(work.problem, work.dim)
    function = problems.FUNCTIONS[work.problem][0]
    space = search.uniform(-1, 1, (work.dim,))
    return (lambda x: function(x - 0.2, jnp)), problem.host(0), space


def _zoopt(work):
    from benchmarks.contestants.searches import zoopt

    if work.problem == "sonar":
        task, run = problems.subset(8), partial(zoopt.run, subset=8)
    else:
        task, run = problems.continuous(work.problem, work.dim), zoopt.run
    fun = task.objective(0)  # without noise
    return Host(lambda: play(run, fun, task.box, work.slice, 0), amount=work.slice)
