"""Branches that are rarely taken: a program of NumPy traces them when their turn comes."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.interpreters import batching

from zojax._jaxpr import Primitive
from zojax._numerics import float_dtype, promoting

State = TypeVar("State")
_waits: ContextVar[bool] = ContextVar("waits", default=False)

later_p = Primitive("later")
later_p.multiple_results = True
later_p.def_abstract_eval(lambda condition, *leaves, kept, **_: leaves[:kept])


def changed_if(condition: Any, fun: Callable[..., State], state: State, *others: Any) -> State:
    """`fun(state, *others)` if the condition holds, else `state`, as by `lax.cond`.

    `fun` closes over no arrays of JAX: it gets all of them in `others`, a sequence of arrays.
    """
    if not _waits.get():
        return lax.cond(condition, fun, lambda state, *_: state, state, *others)
    structure: Any = jax.tree.structure(state)
    leaves = jax.tree.leaves(state)
    n, types = len(leaves), [jax.typeof(leaf) for leaf in leaves]

    def of_leaves(*leaves: Any) -> list:
        new = fun(structure.unflatten(leaves[:n]), *leaves[n:])
        if jax.tree.structure(new) != structure:
            raise TypeError(f"a state must keep its structure {structure}, got {new}.")
        return [_as_type(*pair) for pair in zip(jax.tree.leaves(new), types, strict=True)]

    settings = {"fun": promoting(of_leaves), "kept": n, "x64": float_dtype() == jnp.float64}
    return structure.unflatten(later_p.bind(condition, *leaves, *others, **settings))


def at_size(size: Any, sizes: list[int], fun: Callable[..., State], *operands: Any) -> State:
    """`fun(n, *operands)` for the least n of `sizes` that is at least `size`.

    A compiled program has one n, the largest.
    """
    if not _waits.get():
        return fun(sizes[-1], *operands)
    smaller = jnp.sum(np.asarray(sizes[:-1]) < size)
    return lax.switch(smaller, [partial(fun, n) for n in sizes], *operands)


@contextmanager
def waiting() -> Iterator[None]:
    """Within it, `changed_if` keeps its function for later."""
    token = _waits.set(True)
    try:
        yield
    finally:
        _waits.reset(token)


def traced_now(eqn: Any) -> Any:
    """The jaxpr of the function of a `later` equation."""
    types = [jax.ShapeDtypeStruct(v.aval.shape, v.aval.dtype) for v in eqn.invars[1:]]
    with waiting(), jax.enable_x64(eqn.params["x64"]):
        return jax.make_jaxpr(eqn.params["fun"])(*types)


def _as_type(new: Any, old: Any) -> Any:
    if (jnp.shape(new), jnp.result_type(new)) != (old.shape, old.dtype):
        raise TypeError(f"a state must keep its types, got {new} for {old}.")
    return new


def _batched(args, axes, *, fun, kept, x64):
    del x64

    def now(condition, *leaves):
        return lax.cond(condition, fun, lambda *leaves: list(leaves[:kept]), *leaves)

    results = jax.vmap(now, axes)(*args)
    return results, [0] * len(results)


batching.primitive_batchers[later_p] = _batched
