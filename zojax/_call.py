"""Calls that compile once: arrays and floats are traced, all other leaves are part of the program."""

import enum
from collections.abc import Callable
from contextlib import contextmanager
from functools import partial
from typing import Any

import jax
import numpy as np

from zojax._kept import PROGRAMS, attributes_of, kept_with, kept_with_loss


class _Mark(enum.Enum):
    """Replaces a static leaf that is not part of the cache key; the same in every copy."""

    TRACED = enum.auto()
    LOSS = enum.auto()


class compiled_call:
    """`jax.jit(fun)` for arguments of any kind.

    Leaves that are arrays, NumPy numbers or Python floats are traced. Ints, bools, strings, functions
    and other hashable leaves are static, as they are for `jax.grad` outside `jit`. A call with an
    unhashable leaf runs without `jit`.

    The first callable among the leaves is the loss. Its last programs live as long as it does, so that
    they do not keep arrays of a lambda alive. A callable object, or a method's object, is traced again
    when one of its attributes changes.

    A copy, pickled or not, is a copy of `fun` and compiles its own programs.
    """

    def __init__(self, fun: Callable):
        self.fun, make = fun, partial(LossPrograms, fun)
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
                # A closure in a traced program is made once, so no warning.
                programs = self.traced_programs_of(loss)
            else:
                programs = self.programs_of(loss)
            return programs.run(treedef, static, [x for x in leaves if _is_traced(x)])

    def __reduce__(self):
        return type(self), (self.fun,)


def _nothing() -> None:
    """The loss of a call without one."""


class LossPrograms:
    """The last programs of `fun` at arguments of which `loss()` is one."""

    def __init__(self, fun: Callable, loss: Callable[[], Callable | None]):
        self.fun, self.loss = fun, loss
        self.kept: dict[tuple, Callable] = {}

    def run(self, treedef, static: tuple, traced: list):
        program = self.kept.get((treedef, static, attributes_of(self.loss())))
        if program is None:
            program = jax.jit(partial(_call, self.fun, self.loss, treedef, static))
        out = program(traced)
        # The attributes of now: tracing may have changed the object, as by counting calls.
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


class jitted:
    """`jax.jit(fun)`; a copy, pickled or not, is a copy of `fun` and compiles its own programs."""

    def __init__(self, fun: Callable, static_argnums: tuple[int, ...] = ()):
        self.fun, self.static_argnums = fun, static_argnums
        self.program = jax.jit(fun, static_argnums=static_argnums)

    def __call__(self, *args):
        return self.program(*args)

    def __reduce__(self):
        return type(self), (self.fun, self.static_argnums)


def compiled_outside(fun: Callable) -> Callable:
    """`fun` as part of the program that is being traced; outside of any, `compiled_call(fun)`."""
    return partial(_call_outside, fun, compiled_call(fun))


def _call_outside(fun: Callable, compiled: Callable, /, *args, **kwargs):
    return (fun if has_tracers((args, kwargs)) else compiled)(*args, **kwargs)


def has_tracers(tree: Any) -> bool:
    """Whether JAX traces any leaf."""
    return any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(tree))


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
