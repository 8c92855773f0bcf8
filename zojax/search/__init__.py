"""Derivative-free search over continuous, integer, ordered, categorical and mixed spaces, and subsets.

    result = search.minimize(fun, {"lr": search.log_uniform(1e-5, 1), "width": search.integers(8, 256)},
                             budget=200, key=0)

Spaces (`spaces.py`) are pytrees of domains (`domains.py`); an algorithm is a NamedTuple of pure functions
(`_algorithm.py`), one a file; `minimize` runs any of them, compiled or by ask and tell.
"""

from zojax.search._algorithm import Algorithm
from zojax.search._minimize import History, SearchProgress, SearchResult, minimize
from zojax.search.asracos import asracos
from zojax.search.coordinate_reset import coordinate_reset
from zojax.search.coordinate_search import coordinate_search
from zojax.search.default import default_algorithm
from zojax.search.domains import (
    Domain,
    choice,
    integers,
    log_integers,
    log_uniform,
    ordered,
    subset,
    uniform,
)
from zojax.search.from_evosax import from_evosax
from zojax.search.ponss import ponss
from zojax.search.portfolio import portfolio
from zojax.search.poss import poss
from zojax.search.pposs import pposs
from zojax.search.quasi_newton import quasi_newton
from zojax.search.racos import racos
from zojax.search.random_search import random_search
from zojax.search.resample import resample
from zojax.search.snes import snes
from zojax.search.spaces import Space, space
from zojax.search.sracos import sracos
from zojax.search.sre import sre
from zojax.search.ssracos import ssracos

__all__ = [
    "Algorithm",
    "Domain",
    "History",
    "SearchProgress",
    "SearchResult",
    "Space",
    "asracos",
    "choice",
    "coordinate_reset",
    "coordinate_search",
    "default_algorithm",
    "from_evosax",
    "integers",
    "log_integers",
    "log_uniform",
    "minimize",
    "ordered",
    "ponss",
    "portfolio",
    "poss",
    "pposs",
    "quasi_newton",
    "racos",
    "random_search",
    "resample",
    "snes",
    "space",
    "sracos",
    "sre",
    "ssracos",
    "subset",
    "uniform",
]
