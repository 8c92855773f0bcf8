"""SRACOS: classification-based search, one sample at a time."""

from functools import partial

from zojax.search.algorithms._algorithm import Algorithm
from zojax.search.algorithms._region import in_region
from zojax.search.algorithms._sequential import SracosState, best, propose, start, tell_point
from zojax.search.algorithms._toolkit import require_racos, require_share, reused, sequential
from zojax.search.spaces import Space


@reused
def sracos(
    *,
    replacement: str = "worst",
    exploration: float = 0.01,
    num_positives: int | None = None,
    parity: bool = False,
    shrinking: float | None = None,
    frequency: float = 0.01,
) -> Algorithm:
    """Sequential RACOS, ZOOpt's default algorithm.

    It begins with T uniform points, and more until a value is finite. The best P points are positive, the
    rest negative. Each step then

    - draws a random positive point;
    - learns a box around it that holds no negative point;
    - redraws a few coordinates in the box, or, with probability `exploration`, the whole point in the
      space;
    - evaluates the new point. If it enters the sorted positives, the one that leaves may replace a
      negative.

    With `shrinking`, it is RACE-CARS: the box also lies in a region, at first the whole space. At each step
    with probability `frequency`, the region becomes

        [x - g^k w / 2, x + g^k w / 2],    k <- k + 1

    with the best point x, the widths w of the ranges and g = `shrinking`. Coordinates without order keep
    their whole range. Choose both so that about 50 shrinks fit the budget: a wrong region costs more than a
    slow one.

    Args:
      replacement: which negative point leaves. "worst" (WR): the worst, for a better point. "random" (RR):
        any. "margin" (LM): the farthest from the best point.
      exploration: the share of uniform samples. Runs side by side explore at the same steps.
      num_positives: P. By default, P, T and the number of redrawn coordinates follow ZOOpt's table.
      parity: learn the box as ZOOpt does: cut random coordinates until no negative point is inside, and
        begin after T points even if no value is finite. By default, if all coordinates have an order, every
        negative point cuts the redrawn coordinates. This is faster and finds better points.
      shrinking: the factor of the region's sides, such as 0.9. None for no region.
      frequency: the probability that the region shrinks in a step.

    Raises:
      ValueError: an unknown replacement; an exploration, shrinking or frequency outside [0, 1];
        num_positives below 1.

    References:
      Hu, Qian and Yu, `Sequential classification-based optimization for direct policy search
      <https://doi.org/10.1609/aaai.v31i1.10927>`_, AAAI 2017. Han, Li, Guo
      and Jin, `Scalable acceleration for classification-based derivative-free optimization
      <https://arxiv.org/abs/2309.11036>`_, AAAI 2025.

    >>> from zojax import search
    >>> found = search.minimize(lambda x: abs(x - 1).sum(), search.uniform(-4, 4, (5,)),
    ...                         search.sracos(), budget=1000, key=0)
    >>> bool(found.best_value < 0.5)
    True
    """
    num_positives = require_racos(exploration, parity, num_positives, replacement)
    require_share("frequency", frequency)
    if shrinking is not None:
        require_share("shrinking", shrinking)
        return in_region(shrinking, frequency, exploration, parity, replacement, num_positives)
    learn = partial(tell_point, replacement)

    def ask(space: Space, state: SracosState):
        x, state = propose(space, state, exploration, parity)
        return x[None], state

    return Algorithm(partial(start, num_positives), ask, sequential(learn), best, learn)
