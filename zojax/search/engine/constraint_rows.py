"""Values with constraints as rows: the value first, then one number for each constraint."""

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from zojax._call import has_tracers
from zojax._checks import brief, require_count
from zojax._kept import Same
from zojax._scalars import NotScalarError
from zojax.search.engine.constrained import by_rules, constrained
from zojax.search.engine.evaluation import pair_of
from zojax.search.engine.task import Problem

Constraints = Callable | Sequence[Callable] | int | None


def count_of(constraints: Constraints) -> int:
    """How many constraints there are: functions of the point, or numbers that `fun` returns."""
    if constraints is None:
        return 0
    if callable(constraints):
        return 1
    if isinstance(constraints, (list, tuple)):
        for constraint in constraints:
            if not callable(constraint):
                raise TypeError(
                    f"constraints must be functions of a point, got {brief(constraint)}."
                )
        return require_count("the number of constraints", len(constraints))
    return require_count("constraints", constraints)


def with_constraints(problem: Problem, constraints: Constraints, has_aux: bool) -> Problem:
    """The problem whose function returns rows (..., 1 + num), for an algorithm that takes them.

    By the rules, the value of an infeasible point does not matter. It is 0, and needs no call of `fun` if
    the constraints are functions.
    """
    num, functions = count_of(constraints), (constraints,) if callable(constraints) else constraints
    same = tuple(map(Same, functions)) if isinstance(functions, (list, tuple)) else num
    ruled = by_rules(problem.algorithm, problem.space)
    return problem._replace(
        fun=_rows(Same(problem.fun), same, has_aux, ruled),
        algorithm=constrained(problem.algorithm, num),
        sign=(float(np.asarray(problem.sign)), *[1.0] * num),
        constraints=num,
    )


@lru_cache(maxsize=8)  # each entry holds a user's functions
def _rows(fun: Same, constraints: Any, has_aux: bool, ruled: bool) -> Callable:
    """One function for all searches with the same functions, so that they share a compiled program."""
    if isinstance(constraints, tuple):
        constraints = [constraint.value for constraint in constraints]
    return partial(_row, fun.value, constraints, has_aux, ruled)


def _row(
    fun: Callable, constraints: Any, has_aux: bool, ruled: bool, point: Any, *args, **extra
) -> Any:
    g: Any = None
    if isinstance(constraints, list):
        g = [constraint(point, *args) for constraint in constraints]
    if g is not None and ruled and not has_tracers(g) and np.all(np.max(g, axis=0) > 0):
        value, aux = np.zeros(np.shape(g[0])), None
    else:
        returned = fun(point, *args, **extra)
        value, aux = pair_of(returned) if has_aux else (returned, None)
        value, g = _split(value, constraints) if g is None else (value, g)
    row = _joined(value, g, ruled)
    return (row, aux) if has_aux else row


def _split(returned: Any, num: int) -> tuple[Any, Any]:
    if not isinstance(returned, (tuple, list)) or len(returned) != 2:
        raise TypeError(f"fun must return (value, constraints), got {brief(returned)}.")
    value, g = returned
    is_list = isinstance(g, (list, tuple))
    size = (len(g),) if is_list else (jnp if _has_jax(g) else np).shape(g)[-1:]
    if size != (num,):
        raise NotScalarError(f"fun must return {num} constraints beside its value, got {brief(g)}.")
    return value, list(g) if is_list else [g[..., i] for i in range(num)]


def _joined(value: Any, g: list, ruled: bool) -> Any:
    xp: Any = jnp if _has_jax((value, g)) else np
    shape = np.shape(value)
    parts = [xp.reshape(xp.asarray(part), shape) for part in (value, *g)]
    row = xp.stack([xp.asarray(part, xp.result_type(float)) for part in parts], axis=-1)
    if not ruled:
        return row
    fits = xp.all(row[..., 1:] <= 0, axis=-1)
    return xp.concatenate([xp.where(fits, row[..., 0], 0.0)[..., None], row[..., 1:]], axis=-1)


def _has_jax(tree: Any) -> bool:
    return any(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(tree))
