"""A call of the user's function on the host: as it is, or as a compiled program."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import numpy as np

from zojax._call import PROGRAMS, kept_with_loss
from zojax._numerics import float_dtype
from zojax._scalars import traced_values
from zojax.search.engine.numpy_program import NoNumPyFormError, numpy_program
from zojax.search.engine.task import Problem
from zojax.search.spaces import Space


class Callee(NamedTuple):
    """`fun(point(x), ...)` is an evaluation of the encoded point x (d,); the dtype is that of its value."""

    fun: Callable
    point: Callable[[np.ndarray], Any]
    dtype: np.dtype


def plain(problem: Problem) -> Callee:
    """The user's function, which takes points in the user's form."""
    return Callee(problem.fun, problem.space.point, np.dtype(float))


def compiled(problem: Problem) -> Callee:
    """Its program. All spaces of the same structure share it."""
    dtype = float_dtype()
    decode, structure = _decoder(problem.space, dtype)
    program = _programs_of(problem.fun)(problem.value_shape, structure)
    return Callee(program, lambda x: decode(x.astype(dtype)), dtype)


@kept_with_loss
def _programs_of(fun: Callable[[], Callable]) -> Callable[[tuple[int, ...], Any], Callable]:
    """The last programs of a function, for shapes of its value and structures of its point."""

    @lru_cache(PROGRAMS)
    def of(shape: tuple[int, ...], structure: Any) -> Callable:
        del structure  # each has a `jax.jit` of its own, which is dropped with its program

        def program(point: Any, *args: Any, **extra: Any) -> jax.Array:
            value = fun()(point, *args, **extra)
            return traced_values(value, shape).astype(float_dtype())

        return jax.jit(program)

    return of


@lru_cache(PROGRAMS)
def _decoder(space: Space, dtype: np.dtype) -> tuple[Callable[[np.ndarray], Any], Any]:
    """`space.decode`, run by NumPy where all its domains allow it, and the structure of its points."""
    low = space.low.astype(dtype)
    leaves, treedef = jax.tree.flatten(jax.eval_shape(space.decode, low))
    structure = treedef, tuple((leaf.shape, leaf.dtype) for leaf in leaves)
    try:
        program, _ = numpy_program(space.decode, low)
    except NoNumPyFormError:
        return space.decode, structure
    return (lambda x: jax.tree.unflatten(treedef, program(x))), structure
