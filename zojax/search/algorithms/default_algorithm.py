"""The algorithm of a search that names none."""

from zojax._checks import require_count
from zojax._trees import PyTree
from zojax.search.algorithms._algorithm import Algorithm
from zojax.search.algorithms.portfolio import has_few_turns, portfolio
from zojax.search.algorithms.sracos import sracos
from zojax.search.algorithms.sre import sre
from zojax.search.spaces import space as as_space


def default_algorithm(space: PyTree, budget: int) -> Algorithm:
    """What `search.minimize` uses when no algorithm is named.

    `portfolio()`, with `sracos()` for noise where there are less than some 20 evaluations a coordinate; but
    in a continuum with fewer than two, where no coordinate can be looked at alone, its searches of random
    subspaces: `sre()`. It notices noise on its own, but only `minimize(..., with_key=True)` says so to
    `minimize`, which then reports the mean of fresh values.

    Args:
      space: a pytree of domains or a `Space`.
      budget: evaluations of a run.

    Returns:
      An `Algorithm`.

    >>> from zojax import search
    >>> space = {"x": search.uniform(-1, 1, (3,)), "kind": search.choice(["a", "b"])}
    >>> search.default_algorithm(space, budget=3000) is search.portfolio()
    True
    >>> wide = search.uniform(-1, 1, (10_000,))
    >>> search.default_algorithm(wide, budget=300) is search.sre()
    True
    """
    space, budget = as_space(space), require_count("budget", budget)
    if space.is_continuous and space.dimension > max(10, budget / 2):
        return sre()
    return portfolio(noisy=sracos()) if has_few_turns(space, budget) else portfolio()
