"""Derivative-free search over continuous, integer, categorical, mixed and conditional spaces, and more.

    result = search.minimize(fun, {"lr": search.log_uniform(1e-5, 1), "width": search.integers(8, 256)},
                             budget=200, key=0)

`spaces` has the domains that a space is made of, `algorithms` the searches, one a file. `engine` runs any
algorithm on any space, compiled or by ask and tell.
"""

import sys
import typing as _typing

from zojax.search import algorithms, pruners, spaces
from zojax.search.algorithms import *  # noqa: F403
from zojax.search.engine.ask_tell import AskTell as AskTell
from zojax.search.engine.ask_tell import AskTellState as AskTellState
from zojax.search.engine.ask_tell import Candidate as Candidate
from zojax.search.engine.ask_tell import ask_tell as ask_tell
from zojax.search.engine.evaluation import Trial as Trial
from zojax.search.engine.front import Front as Front
from zojax.search.engine.front_result import FrontResult as FrontResult
from zojax.search.engine.minimize import minimize as minimize
from zojax.search.engine.plots import plot_history as plot_history
from zojax.search.engine.result import History as History
from zojax.search.engine.result import SearchProgress as SearchProgress
from zojax.search.engine.result import SearchResult as SearchResult
from zojax.search.engine.task import SearchState as SearchState
from zojax.search.pruners import *  # noqa: F403
from zojax.search.spaces import *  # noqa: F403

domains = spaces  # the old name

if not _typing.TYPE_CHECKING:  # type checkers read the imports
    __all__ = ["AskTell", "AskTellState", "Candidate", "Front", "FrontResult", "History"]
    __all__ += ["SearchProgress", "SearchResult", "SearchState", "Trial", "ask_tell", "minimize"]
    __all__ += ["plot_history"]
    __all__ += algorithms.__all__ + pruners.__all__ + spaces.__all__
    # Modules that lay here before they had packages: `from zojax.search.sracos import sracos`.
    _MOVED = {name: f"algorithms.{name}" for name in algorithms.__all__ if name != "Algorithm"}
    _MOVED |= {
        "domains": "spaces",
        "default": "algorithms.default_algorithm",
        "pposs": "algorithms.poss",
    }
    sys.modules.update(
        {f"{__name__}.{old}": sys.modules[f"{__name__}.{new}"] for old, new in _MOVED.items()}
    )
