"""Search spaces: domains, one a file, and pytrees of them as boxes of encoded coordinates."""

import typing as _typing

from zojax.search.spaces._domain import CONTINUOUS as CONTINUOUS
from zojax.search.spaces._domain import ORDERED as ORDERED
from zojax.search.spaces._domain import UNORDERED as UNORDERED
from zojax.search.spaces._domain import Domain as Domain
from zojax.search.spaces.choice import choice as choice
from zojax.search.spaces.choice import ordered as ordered
from zojax.search.spaces.conditional import Branch as Branch
from zojax.search.spaces.integers import integers as integers
from zojax.search.spaces.log_integers import log_integers as log_integers
from zojax.search.spaces.log_uniform import log_uniform as log_uniform
from zojax.search.spaces.permutation import permutation as permutation
from zojax.search.spaces.real import real as real
from zojax.search.spaces.space import Space as Space
from zojax.search.spaces.space import space as space
from zojax.search.spaces.subset import subset as subset
from zojax.search.spaces.uniform import uniform as uniform

if not _typing.TYPE_CHECKING:  # type checkers read the aliases
    __all__ = [name for name in dir() if not name.startswith("_")]
