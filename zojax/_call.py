"""Calls that compile once: arrays and floats are traced, everything else is part of the program."""

import enum
import inspect
import itertools
import types
import warnings
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import jax
import numpy as np


class _Mark(enum.Enum):
    """Stands among the static leaves for one that is not part of the key; the same in every copy."""

    TRACED = enum.auto()
    LOSS = enum.auto()


_FUNCTIONS = types.FunctionType, partial, type(jax.jit(lambda: None))
# How many programs are kept of a function. Each takes some 50 memory maps, of which a process has 65,530.
PROGRAMS = 16


class Same:
    """Equal to the mark of the very same object, whatever the object's own equality says."""

    def __init__(self, value):
        self.value = value

    def __hash__(self):
        return id(self.value)

    def __eq__(self, other):
        return isinstance(other, Same) and self.value is other.value


def attributes_of(loss) -> tuple:
    """What a method, or an object that is called, may read of the object, which stays the same object."""
    owner = loss.__self__ if inspect.ismethod(loss) else loss
    if owner is None or isinstance(owner, _FUNCTIONS):
        return ()
    items = sorted(getattr(owner, "__dict__", {}).items())
    plain = (bool, int, float, str, type(None))
    return tuple((k, type(v), v if isinstance(v, plain) else Same(v)) for k, v in items)


class kept_with:
    """`make(reference)` for a function, made once, and kept as long as the function lives.

    It may be a method or any object to call, too. `reference()` is the function. What `make` compiles
    must reach it so, and not as a static argument, which JAX keeps for good, with the arrays of a lambda.
    A copy begins with nothing made.
    """

    def __init__(self, make: Callable[[Callable[[], Any]], Any]):
        self.make, self.kept = make, {}

    def __call__(self, fun: Callable):
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


class kept_with_loss(kept_with):
    """`kept_with`, which warns once of a third function with the same code: a closure made in each step.

    The counts live as long as the programs of `make`, and each as long as its code.
    """

    def __init__(self, make: Callable[[Callable[[], Any]], Any]):
        # Counters by the code object itself: equal codes of two notebook cells are two.
        super().__init__(partial(_counted, kept_with(_counter), make))
        self.uncounted = make

    def __reduce__(self):
        return type(self), (self.uncounted,)


def _counted(counter_of: kept_with, make: Callable, reference: Callable[[], Any]):
    """`make(reference)`, after one more function with its code."""
    code = _code_of(reference())
    if code is not None and next(counter_of(code)) == 3:
        warnings.warn(
            f"{code.co_qualname} ({code.co_filename}:{code.co_firstlineno}) is compiled for the third "
            "time, each time as a new function. Define it once, outside of the loop, and pass what "
            "changes as an argument: tx.update(None, state, params, value_fn=loss, batch=batch), "
            "value_and_grad(loss)(key, params, batch), search.minimize(fun, space, args=(batch,), ...).",
            stacklevel=5,
        )
    return make(reference)


def _counter(code: Callable[[], types.CodeType]) -> Iterator[int]:
    return itertools.count(1)


def _code_of(fun) -> types.CodeType | None:
    """The code of a function, also behind `jax.jit` and `partial`. Objects and their methods have none."""
    while isinstance(fun, partial) or hasattr(fun, "__wrapped__"):
        fun = fun.func if isinstance(fun, partial) else fun.__wrapped__
    return fun.__code__ if isinstance(fun, types.FunctionType) else None


class compiled_call:
    """`jax.jit(fun)` for arguments of any kind.

    Leaves that are arrays, NumPy numbers or Python floats are traced. Ints, bools, strings, functions
    and other hashable leaves are static, as they are for `jax.grad` outside `jit`. A call with an
    unhashable leaf runs without `jit`.

    Programs of the first function, method or object to call among the leaves, the loss, live as long as it
    does, the last few of them: arrays that a lambda holds are not kept by what was compiled for it.
    An object, also that of a method, is traced again when an attribute of it is another one.

    A copy, pickled or not, is a copy of `fun` and compiles its own programs.
    """

    def __init__(self, fun: Callable):
        self.fun, make = fun, partial(_Programs, fun)
        self.lasting = make(_nothing)
        self.programs_of, self.traced_programs_of = kept_with_loss(make), kept_with(make)

    def __call__(self, *args, **kwargs):
        leaves, treedef = jax.tree.flatten((args, kwargs))
        loss = next((x for x in leaves if callable(x) and not isinstance(x, type)), None)
        marked = [_Mark.LOSS if x is loss else _Mark.TRACED if _is_traced(x) else x for x in leaves]
        # The type belongs to the key: True == 1, but a loss may tell them apart.
        static = tuple((type(x), m) for x, m in zip(leaves, marked, strict=True))
        try:
            hash((treedef, static))
        except TypeError:
            return self.fun(*args, **kwargs)
        with untraceable(
            "zojax traces the loss. For a black box that JAX cannot trace use "
            "estimator.ask and estimator.tell, or zojax.minimize(..., jit=False)."
        ):
            if loss is None:
                programs = self.lasting
            elif has_tracers(leaves):
                # A closure that is made while a program is traced is made once.
                programs = self.traced_programs_of(loss)
            else:
                programs = self.programs_of(loss)
            return programs.run(treedef, static, [x for x in leaves if _is_traced(x)])

    def __reduce__(self):
        return type(self), (self.fun,)


def _nothing() -> None:
    """The loss of a call without one."""


class jitted:
    """`jax.jit(fun)`, of which a copy, pickled or not, is a copy of `fun` and compiles its own programs."""

    def __init__(self, fun: Callable, static_argnums: tuple[int, ...] = ()):
        self.fun, self.static_argnums = fun, static_argnums
        self.program = jax.jit(fun, static_argnums=static_argnums)

    def __call__(self, *args):
        return self.program(*args)

    def __reduce__(self):
        return type(self), (self.fun, self.static_argnums)


class _Programs:
    """The last programs of `fun` at arguments of which `loss()` is one."""

    def __init__(self, fun: Callable, loss: Callable[[], Callable | None]):
        self.fun, self.loss, self.kept = fun, loss, {}

    def run(self, treedef, static: tuple, traced: list):
        program = self.kept.get((treedef, static, attributes_of(self.loss())))
        if program is None:
            program = jax.jit(partial(_call, self.fun, self.loss, treedef, static))
        out = program(traced)
        # As it is now: tracing may have changed the object, as by counting calls.
        key = treedef, static, attributes_of(self.loss())
        self.kept.pop(key, None)
        self.kept[key] = program
        for oldest in list(self.kept)[:-PROGRAMS]:
            self.kept.pop(oldest, None)
        return out


def _call(fun, loss, treedef, static, traced):
    """`fun` at flattened arguments, in which `_Mark.LOSS` stands for `loss()`."""
    filled = iter(traced)
    leaves = [
        next(filled) if mark is _Mark.TRACED else loss() if mark is _Mark.LOSS else mark
        for _, mark in static
    ]
    args, kwargs = jax.tree.unflatten(treedef, leaves)
    return fun(*args, **kwargs)


def has_tracers(tree) -> bool:
    """Whether any leaf is known to a transformation alone."""
    return any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(tree))


def compiled_outside(fun: Callable) -> Callable:
    """`fun` as part of the program that is being traced; outside of any, `compiled_call(fun)`."""
    return partial(_call_outside, fun, compiled_call(fun))


def _call_outside(fun: Callable, compiled: Callable, /, *args, **kwargs):
    return (fun if has_tracers((args, kwargs)) else compiled)(*args, **kwargs)


@contextmanager
def untraceable(remedy: str):
    """Adds a remedy to the errors of functions that JAX cannot trace."""
    try:
        yield
    except (jax.errors.ConcretizationTypeError, jax.errors.TracerArrayConversionError) as error:
        if remedy not in getattr(error, "__notes__", []):
            error.add_note(remedy)
        raise


def _is_traced(leaf) -> bool:
    return isinstance(leaf, (jax.Array, np.ndarray, np.generic, float))
