"""The default algorithm of `minimize`."""

import numpy as np

from zojax._checks import require_count, require_flag
from zojax._trees import PyTree
from zojax.search.algorithms._algorithm import Algorithm
from zojax.search.algorithms._side_by_side import side_by_side
from zojax.search.algorithms.iterated_local_search import iterated_local_search
from zojax.search.algorithms.portfolio import has_few_turns, portfolio
from zojax.search.algorithms.sracos import sracos
from zojax.search.algorithms.sre import sre
from zojax.search.algorithms.turbo import turbo
from zojax.search.spaces import UNORDERED
from zojax.search.spaces import space as as_space

NARROW = 20  # most coordinates of `turbo`
PER_COORDINATE, FIXED = 10, 30  # its most evaluations; then differences and lines find more


def default_algorithm(
    space: PyTree, budget: int, *, batch_size: int = 1, noisy: bool = False
) -> Algorithm:
    """The algorithm that `search.minimize` uses by default.

    - `portfolio()` for most searches.
    - `turbo()` for at most 10 d + 30 evaluations, if the space has d <= 20 coordinates and the function is
      not known to be noisy. A coordinate without an order must have fewer options than evaluations.
    - `portfolio(noisy=sracos())` with less than about 20 evaluations per coordinate.
    - `portfolio(iterated_local_search())` if no coordinate has an order.
    - `sre()`, searches of random subspaces, for continuous spaces with more than 10 coordinates and less
      than two evaluations per coordinate.

    Args:
      space: a pytree of domains or a `Space`.
      budget: evaluations of a run.
      batch_size: points of one ask, for parallel evaluations.
      noisy: whether two values of a point may differ. `minimize` passes its `with_key`. The portfolio
        notices noise on its own.

    >>> from zojax import search
    >>> space = {"x": search.uniform(-1, 1, (3,)), "kind": search.choice(["a", "b"])}
    >>> search.default_algorithm(space, budget=3000) is search.portfolio()
    True
    >>> search.default_algorithm(space, budget=50) is search.turbo()
    True
    >>> wide = search.uniform(-1, 1, (10_000,))
    >>> search.default_algorithm(wide, budget=300) is search.sre()
    True
    """
    space, budget = as_space(space), require_count("budget", budget)
    batch_size = require_count("batch_size", batch_size)
    require_flag("noisy", noisy)
    d = space.dimension
    if space.is_continuous and d > max(10, budget / 2):
        return sre() if batch_size == 1 else sre(portfolio(batch_size=batch_size))
    is_small = d <= NARROW and budget <= PER_COORDINATE * d + FIXED
    is_unordered = space.kinds == UNORDERED
    is_seen = np.all(~is_unordered | (space.high - space.low < budget))
    if is_small and is_seen and batch_size == 1 and not noisy:
        return turbo()
    members = (side_by_side(iterated_local_search(), batch_size),) if np.all(is_unordered) else ()
    last = side_by_side(sracos(), batch_size) if has_few_turns(d, budget) else None
    return portfolio(*members, noisy=last, batch_size=batch_size)
