"""The evaluations of a search: how many a run has, keeps for its answer, and plans for."""

from typing import NamedTuple

import numpy as np

from zojax.search.engine.arguments import require_state
from zojax.search.engine.once import OnceState, is_listed, never_twice
from zojax.search.engine.task import Problem, SearchState, Starts, reserved


class Plan(NamedTuple):
    """The problem of a run, and the evaluations that it keeps for its recommended point.

    `exhausts` says whether the run covers the space. `state` is the end of an earlier search.
    """

    problem: Problem
    reserve: int
    exhausts: bool
    state: SearchState | None


def plan(problem: Problem, starts: Starts, state: SearchState | None) -> Plan:
    """The plan of a problem whose `planned` is the budget of its first search."""
    space, algorithm, first = problem.space, problem.algorithm, problem.planned
    # With a key, one value does not settle a point.
    once = algorithm if problem.with_key else never_twice(algorithm, space, first)
    listed = once is not algorithm and is_listed(space, first)
    if state is not None:
        state = require_state(state, once, space, problem.runs)
    left = _new_points(problem, starts, state) if listed else np.inf
    exhausts = left <= problem.budget
    reserve = 0
    if problem.is_noisy:
        reserve = reserved(algorithm, min(problem.budget, first), len(starts.x))
    budget = int(left) if exhausts else problem.budget - reserve
    planned = min(budget, first - reserve) if state is None else state.planned
    problem = problem._replace(algorithm=once, budget=budget, planned=planned)
    return Plan(problem, reserve, exhausts, state)


def _new_points(problem: Problem, starts: Starts, state: SearchState | None) -> int:
    """Evaluations that a listed space has left: every unknown point once, and each given one."""
    given = len(starts.x) if starts.values is None else 0
    if state is None:
        return int(problem.space.size) - len(np.unique(starts.x, axis=0)) + given
    memory: OnceState = state.algorithm
    seen = np.reshape(memory.seen, (problem.runs, -1))
    return int(np.min(np.sum(~seen, axis=1))) + given
