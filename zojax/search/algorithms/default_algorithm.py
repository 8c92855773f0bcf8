"""The default algorithm of `minimize`."""

from typing import Any

from zojax._checks import require_count
from zojax._trees import PyTree
from zojax.search.algorithms._algorithm import Algorithm
from zojax.search.algorithms._side_by_side import side_by_side
from zojax.search.algorithms.portfolio import has_few_turns, portfolio
from zojax.search.algorithms.sracos import sracos
from zojax.search.algorithms.sre import sre
from zojax.search.spaces import space as as_space


def default_algorithm(space: PyTree, budget: int, *, batch_size: int = 1) -> Algorithm:
    """The algorithm that `search.minimize` uses by default.

    - `portfolio()` for most searches.
    - `portfolio(noisy=sracos())` with less than about 20 evaluations per coordinate.
    - `sre()`, searches of random subspaces, for continuous spaces with more than 10 coordinates and less
      than two evaluations per coordinate.

    It notices noise on its own. Pass `with_key=True` to tell `minimize`, which then reports the mean of
    fresh evaluations.

    Args:
      space: a pytree of domains or a `Space`.
      budget: evaluations of a run.
      batch_size: points of one ask, for parallel evaluations.

    >>> from zojax import search
    >>> space = {"x": search.uniform(-1, 1, (3,)), "kind": search.choice(["a", "b"])}
    >>> search.default_algorithm(space, budget=3000) is search.portfolio()
    True
    >>> wide = search.uniform(-1, 1, (10_000,))
    >>> search.default_algorithm(wide, budget=300) is search.sre()
    True
    """
    space, budget = as_space(space), require_count("budget", budget)
    batch_size = require_count("batch_size", batch_size)
    if space.is_continuous and space.dimension > max(10, budget / 2):
        return sre() if batch_size == 1 else sre(portfolio(batch_size=batch_size))
    if has_few_turns(space, budget):
        noisy = side_by_side(sracos(), batch_size)
        return portfolio(noisy=noisy, **_unless_one(batch_size))
    return portfolio(**_unless_one(batch_size))


def _unless_one(batch_size: int) -> dict[str, Any]:
    """The setting, left out if it is the default, so that equal portfolios are one object."""
    return {} if batch_size == 1 else {"batch_size": batch_size}
