"""A loss with its further arguments."""

from collections.abc import Callable
from functools import partial
from typing import Any


def bound(fun: Callable, args: tuple) -> Callable:
    """`params -> fun(params, *args)`, which pickles if `fun` does; `fun` itself without arguments."""
    return partial(_call, fun, args) if args else fun


def _call(fun: Callable, args: tuple, params: Any, **key: Any) -> Any:
    return fun(params, *args, **key)
