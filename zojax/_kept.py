"""Programs that live as long as the function they were compiled for."""

import inspect
import itertools
import types
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax

from zojax._warnings import warn

_FUNCTIONS = types.FunctionType, partial, type(jax.jit(lambda: None))
# How many programs are kept of a function. Each takes some 50 memory maps, of which a process has 65,530.
PROGRAMS = 16


class Same:
    """Equal to a mark of the same object, regardless of the object's own equality."""

    def __init__(self, value):
        self.value = value

    def __hash__(self):
        return id(self.value)

    def __eq__(self, other):
        return isinstance(other, Same) and self.value is other.value


def attributes_of(loss) -> tuple:
    """The attributes of a callable object, or of a method's object, in a form that can be compared."""
    owner = loss.__self__ if inspect.ismethod(loss) else loss
    if owner is None or isinstance(owner, _FUNCTIONS):
        return ()
    items = sorted(getattr(owner, "__dict__", {}).items())
    plain = (bool, int, float, str, type(None))
    return tuple((k, type(v), v if isinstance(v, plain) else Same(v)) for k, v in items)


class kept_with:
    """`make(reference)` for a function, called once, and its result kept while the function lives.

    The function may be a method or a callable object. `reference()` returns it. Compiled programs must
    reach the function so: JAX keeps static arguments for good, with the arrays in a lambda's closure.
    A copy starts empty.
    """

    def __init__(self, make: Callable[[Callable[[], Any]], Any]):
        self.make = make
        self.kept: dict[tuple, tuple[weakref.ref, Any]] = {}

    def __call__(self, fun: Any):
        kept = self.kept
        is_method = inspect.ismethod(fun)
        owner = fun.__self__ if is_method else fun
        key = id(owner), fun.__func__ if is_method else None
        if key not in kept:
            try:
                owned = weakref.ref(owner, lambda _: kept.pop(key, None))
            except TypeError:  # such as an object with __slots__
                return self.make(lambda: fun)
            reference = weakref.WeakMethod(fun) if is_method else owned
            kept[key] = owned, self.make(reference)
        return kept[key][1]

    def __reduce__(self):
        return type(self), (self.make,)


def kept_with_loss(make: Callable[[Callable[[], Any]], Any]) -> kept_with:
    """`kept_with`, with one warning for a third function of the same code: a closure made in each step.

    The counts live as long as the programs of `make`, and each as long as its code.
    """
    # Counters by the code object itself: equal codes of two notebook cells are two.
    return kept_with(partial(_counted, kept_with(_counter), make))


def _counted(counter_of: kept_with, make: Callable, reference: Callable[[], Any]):
    """`make(reference)`, after one more function with its code."""
    code = _code_of(reference())
    if code is not None and next(counter_of(code)) == 3:
        warn(
            f"{code.co_qualname} ({code.co_filename}:{code.co_firstlineno}) is compiled for the third "
            "time, each time as a new function. Define it once, outside of the loop, and pass what "
            "changes as an argument: tx.update(None, state, params, value_fn=loss, batch=batch), "
            "value_and_grad(loss)(key, params, batch), search.minimize(fun, space, args=(batch,), ...)."
        )
    return make(reference)


def _counter(code: Callable[[], types.CodeType]) -> Iterator[int]:
    return itertools.count(1)


def _code_of(fun) -> types.CodeType | None:
    """The code of a user's function, also behind `jax.jit` and `partial`; None for objects and methods."""
    while isinstance(fun, partial) or hasattr(fun, "__wrapped__"):
        fun = fun.func if isinstance(fun, partial) else fun.__wrapped__
    is_zojax = str(getattr(fun, "__module__", "")).startswith("zojax.")
    return fun.__code__ if isinstance(fun, types.FunctionType) and not is_zojax else None
