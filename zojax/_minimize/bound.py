"""A loss with its further arguments."""

from collections.abc import Callable
from typing import Any, NamedTuple


class Bound(NamedTuple):
    """`params -> fun(params, *args)`; pickles if both do."""

    fun: Callable
    args: tuple

    def __call__(self, params: Any, **key: Any) -> Any:
        return self.fun(params, *self.args, **key)


def bound(fun: Callable, args: tuple) -> Callable:
    """The loss as a function of the parameters; `fun` itself without arguments."""
    return Bound(fun, args) if args else fun
