"""Derivative-free search over continuous, integer, ordered, categorical and mixed spaces, and subsets.

    result = search.minimize(fun, {"lr": search.log_uniform(1e-5, 1), "width": search.integers(8, 256)},
                             budget=200, key=0)

Spaces are pytrees of domains (`spaces.py`); an algorithm is a NamedTuple of pure functions
(`_algorithm.py`), one a file; `minimize` runs any of them, compiled or by ask and tell.
"""

from zojax.search._algorithm import Algorithm
from zojax.search._minimize import History, SearchProgress, SearchResult, minimize
from zojax.search.coordinate_reset import coordinate_reset
from zojax.search.coordinate_search import coordinate_search
from zojax.search.portfolio import portfolio
from zojax.search.quasi_newton import quasi_newton
from zojax.search.random_search import random_search
from zojax.search.snes import snes
from zojax.search.spaces import (
    Domain,
    Space,
    choice,
    integers,
    log_integers,
    log_uniform,
    ordered,
    space,
    subset,
    uniform,
)
from zojax.search.sracos import sracos

__all__ = [
    "Algorithm",
    "Domain",
    "History",
    "SearchProgress",
    "SearchResult",
    "Space",
    "choice",
    "coordinate_reset",
    "coordinate_search",
    "integers",
    "log_integers",
    "log_uniform",
    "minimize",
    "ordered",
    "portfolio",
    "quasi_newton",
    "random_search",
    "snes",
    "space",
    "sracos",
    "subset",
    "uniform",
]
