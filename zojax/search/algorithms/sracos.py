"""SRACOS: classification-based search, one sample at a time."""

from functools import partial

from zojax._checks import require_count, require_flag
from zojax.search.algorithms._algorithm import Algorithm, reused, sequential
from zojax.search.algorithms._sequential import SracosState, best, propose, start, tell_point
from zojax.search.algorithms._settings import require_exploration, require_replacement
from zojax.search.spaces import Space


@reused
def sracos(
    *,
    replacement: str = "worst",
    exploration: float = 0.01,
    num_positives: int | None = None,
    parity: bool = False,
) -> Algorithm:
    """Sequential RACOS, the algorithm ZOOpt runs by default.

    T uniform points, and more until a value is finite; the best P are positive, the rest negative. Then
    each step draws a random positive, learns a box around it that holds no negative, redraws a few of its
    coordinates in the box (with probability `exploration` the whole point, in the space) and evaluates.
    The new point enters the sorted positives, and the one that leaves them may replace a negative.

    Args:
      replacement: which negative leaves. "worst" (WR): the worst, for a better point; "random" (RR): any;
        "margin" (LM): the one farthest from the best point.
      exploration: the share of uniform samples. Runs side by side explore at the same steps.
      num_positives: P, from ZOOpt's table by default (T and the redrawn coordinates are, too).
      parity: learn the box as ZOOpt does, by cuts in random coordinates until no bad point is left, and
        after T points even where no value is finite. By default every bad point cuts the coordinates that
        are redrawn (those with an order, where all have one), which is faster and finds better points.

    Returns:
      An `Algorithm`.

    Raises:
      ValueError: an unknown replacement; an exploration outside [0, 1]; num_positives below 1.

    References:
      Hu, Qian and Yu, `Sequential classification-based optimization for direct policy search
      <https://doi.org/10.1609/aaai.v31i1.10927>`_, AAAI 2017.

    >>> from zojax import search
    >>> found = search.minimize(lambda x: abs(x - 1).sum(), search.uniform(-4, 4, (5,)),
    ...                         search.sracos(), budget=1000, key=0)
    >>> bool(found.best_value < 0.5)
    True
    """
    require_replacement(replacement)
    require_exploration(exploration)
    require_flag("parity", parity)
    if num_positives is not None:
        num_positives = require_count("num_positives", num_positives)
    learn = partial(tell_point, replacement)

    def ask(space: Space, state: SracosState):
        x, state = propose(space, state, exploration, parity)
        return x[None], state

    return Algorithm(
        init=partial(start, num_positives),
        ask=ask,
        tell=sequential(learn),
        best=best,
        inject=learn,
    )
