"""The default search."""

from zojax.search._algorithm import Algorithm
from zojax.search.coordinate_search import coordinate_search


def portfolio() -> Algorithm:
    """The default algorithm of `search.minimize`."""
    return coordinate_search()
