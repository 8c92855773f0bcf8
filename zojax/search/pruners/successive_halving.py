"""Asynchronous successive halving (ASHA): only the best share of evaluations goes on at each rung."""

from functools import partial

from zojax._checks import require_count, require_positive
from zojax.search.pruners._pruner import Pruner

Rungs = dict[float, dict[int, float]]  # the values at each rung, by the number of the evaluation


def successive_halving(min_steps: float, max_steps: float, reduction: int = 3) -> Pruner:
    """ASHA: lets 1 in `reduction` evaluations pass each of the steps m, m r, m r^2, ... below `max_steps`.

    Here m = min_steps and r = reduction. At its first report at or after such a step, an evaluation goes on
    if its value is among the best 1/r of all values there so far; with fewer than r values, only the best.
    It waits for no other evaluation.

    The rule trusts early values: choose `min_steps` so large that they predict the last ones.

    Args:
      min_steps: the steps that every evaluation may take.
      max_steps: the steps of a whole evaluation.
      reduction: r, at least 2.

    Raises:
      TypeError: steps that are no numbers; a reduction that is no int.
      ValueError: steps that are not 0 < min_steps < max_steps; a reduction below 2.

    References:
      Li et al., `A system for massively parallel hyperparameter tuning
      <https://arxiv.org/abs/1810.05934>`_, MLSys 2020.

    >>> from zojax import search
    >>> steps = 0
    >>> def train(p, *, report):
    ...     global steps
    ...     for step in range(1, 28):
    ...         steps += 1
    ...         loss = (p["rate"] - 0.3) ** 2 + 1 / step
    ...         report(step, loss)  # ends the evaluation, if it is a bad one
    ...     return loss
    >>> found = search.minimize(train, {"rate": search.uniform(0, 1)}, search.random_search(),
    ...                         budget=100, key=0, pruner=search.successive_halving(1, 27))
    >>> round(found.best["rate"], 1), steps < 100 * 27 / 4, int(found.history.pruned.sum()) > 80
    (0.3, True, True)
    """
    for name, value in {"min_steps": min_steps, "max_steps": max_steps}.items():
        require_positive(name, value)
    if not min_steps < max_steps:
        raise ValueError(f"min_steps must be below max_steps = {max_steps}, got {min_steps}.")
    if require_count("reduction", reduction) < 2:
        raise ValueError(f"reduction must be at least 2, got {reduction}.")
    rungs = [min_steps]
    while rungs[-1] * reduction < max_steps:
        rungs.append(rungs[-1] * reduction)
    return Pruner(init=lambda: {rung: {} for rung in rungs}, report=partial(_report, reduction))


def _report(reduction: int, state: Rungs, number: int, step: float, value: float):
    rung = max((rung for rung in state if rung <= step), default=None)
    if rung is None or number in state[rung]:
        return False, state
    values = state[rung] | {number: value}
    passing = max(1, len(values) // reduction)
    return value > sorted(values.values())[passing - 1], state | {rung: values}
