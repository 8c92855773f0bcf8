"""Search algorithms, one a file: each is a factory of an `Algorithm`."""

import typing as _typing

from zojax.search.algorithms._algorithm import Algorithm as Algorithm
from zojax.search.algorithms.asracos import asracos as asracos
from zojax.search.algorithms.cma_es import cma_es as cma_es
from zojax.search.algorithms.coordinate_reset import coordinate_reset as coordinate_reset
from zojax.search.algorithms.coordinate_search import coordinate_search as coordinate_search
from zojax.search.algorithms.default_algorithm import default_algorithm as default_algorithm
from zojax.search.algorithms.from_evosax import from_evosax as from_evosax
from zojax.search.algorithms.iterated_local_search import (
    iterated_local_search as iterated_local_search,
)
from zojax.search.algorithms.nsga2 import nsga2 as nsga2
from zojax.search.algorithms.ponss import ponss as ponss
from zojax.search.algorithms.portfolio import portfolio as portfolio
from zojax.search.algorithms.poss import poss as poss
from zojax.search.algorithms.poss import pposs as pposs
from zojax.search.algorithms.quadratic_model import quadratic_model as quadratic_model
from zojax.search.algorithms.quasi_newton import quasi_newton as quasi_newton
from zojax.search.algorithms.racos import racos as racos
from zojax.search.algorithms.random_search import random_search as random_search
from zojax.search.algorithms.resample import resample as resample
from zojax.search.algorithms.snes import snes as snes
from zojax.search.algorithms.sracos import sracos as sracos
from zojax.search.algorithms.sre import sre as sre
from zojax.search.algorithms.ssracos import ssracos as ssracos
from zojax.search.algorithms.turbo import turbo as turbo

if not _typing.TYPE_CHECKING:  # type checkers read the aliases
    __all__ = [name for name in dir() if not name.startswith("_")]
