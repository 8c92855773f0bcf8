"""Rules that stop bad evaluations early, one a file: each is a factory of a `Pruner`."""

import typing as _typing

from zojax.search.pruners._pruner import Pruned as Pruned
from zojax.search.pruners._pruner import Pruner as Pruner
from zojax.search.pruners.median_stopping import median_stopping as median_stopping
from zojax.search.pruners.successive_halving import successive_halving as successive_halving

if not _typing.TYPE_CHECKING:  # type checkers read the aliases
    __all__ = [name for name in dir() if not name.startswith("_")]
