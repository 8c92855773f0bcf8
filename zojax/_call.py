"""Calls that compile once: arrays and floats are traced, everything else is part of the program."""

import inspect
import types
import weakref
from collections.abc import Callable
from contextlib import contextmanager
from functools import partial
from typing import Any

import jax
import numpy as np


class _Mark:
    """Stands among the static leaves for one that is not part of the key."""


_TRACED, _LOSS = _Mark(), _Mark()
_FUNCTIONS = types.FunctionType, partial, type(jax.jit(lambda: None))


class Same:
    """Equal to the mark of the very same object, whatever the object's own equality says."""

    def __init__(self, value):
        self.value = value

    def __hash__(self):
        return id(self.value)

    def __eq__(self, other):
        return isinstance(other, Same) and self.value is other.value


def attributes_of(leaf) -> tuple:
    """What a method, or an object that can be called, may read: both stay equal when the object changes."""
    method = leaf if inspect.ismethod(leaf) or not callable(leaf) else leaf.__call__
    if not inspect.ismethod(method):
        return ()
    items = sorted(getattr(method.__self__, "__dict__", {}).items())
    plain = (bool, int, float, str, type(None))
    return tuple((k, type(v), v if isinstance(v, plain) else Same(v)) for k, v in items)


def kept_with(make: Callable[[weakref.ref], Any]) -> Callable[[Callable], Any]:
    """`make(weakref.ref(fun))` for a function `fun`, made once and kept as long as `fun` lives.

    What `make` compiles for it must reach it by the reference: JAX keeps what is static as long as the
    program, with the arrays that a lambda holds. For an object, which may change between calls, it is made
    anew.
    """
    kept = weakref.WeakKeyDictionary()

    def of(fun):
        if not isinstance(fun, _FUNCTIONS):
            return make(lambda: fun)
        if fun not in kept:
            kept[fun] = make(weakref.ref(fun))
        return kept[fun]

    return of


def compiled_call(fun: Callable) -> Callable:
    """`jax.jit(fun)` for arguments of any kind.

    Leaves that are arrays, NumPy numbers or Python floats are traced. Ints, bools, strings, functions
    and other hashable leaves are static, as they are for `jax.grad` outside `jit`. A call with an
    unhashable leaf runs without `jit`. A bound method, or an object that can be called, is traced again
    when an attribute of the object is another one.

    Programs of the first function among the leaves, the loss, live as long as it does: arrays that a
    lambda holds are not kept by the programs that were compiled for it.
    """
    lasting, program_of = _program(fun), kept_with(partial(_program, fun))

    def call(*args, **kwargs):
        leaves, treedef = jax.tree.flatten((args, kwargs))
        loss = next((x for x in leaves if isinstance(x, _FUNCTIONS)), None)
        marked = [_LOSS if x is loss else _TRACED if _is_traced(x) else x for x in leaves]
        # The type belongs to the key: True == 1, but a loss may tell them apart.
        static = tuple((type(x), m, attributes_of(x)) for x, m in zip(leaves, marked, strict=True))
        try:
            hash((treedef, static))
        except TypeError:
            return fun(*args, **kwargs)
        with untraceable(
            "zojax traces the loss. For a black box that JAX cannot trace use "
            "estimator.ask and estimator.tell, or zojax.minimize(..., jit=False)."
        ):
            program = lasting if loss is None else program_of(loss)
            return program(treedef, static, [x for x in leaves if _is_traced(x)])

    return call


def _program(fun: Callable, loss: Callable = lambda: None) -> Callable:
    """`jax.jit` of `fun` at flattened arguments, in which `_LOSS` stands for `loss()`."""

    @partial(jax.jit, static_argnums=(0, 1))
    def run(treedef, static, traced):
        filled = iter(traced)
        leaves = [
            next(filled) if mark is _TRACED else loss() if mark is _LOSS else mark
            for _, mark, _ in static
        ]
        args, kwargs = jax.tree.unflatten(treedef, leaves)
        return fun(*args, **kwargs)

    return run


def has_tracers(tree) -> bool:
    """Whether any leaf is known to a transformation alone."""
    return any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(tree))


def compiled_outside(fun: Callable) -> Callable:
    """`fun` as part of the program that is being traced; outside of any, `compiled_call(fun)`."""
    compiled = compiled_call(fun)

    def call(*args, **kwargs):
        return (fun if has_tracers((args, kwargs)) else compiled)(*args, **kwargs)

    return call


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
