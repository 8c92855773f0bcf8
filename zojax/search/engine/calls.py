"""A call of the user's function on the host: as it is, or as a compiled program."""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import jax
import numpy as np

from zojax._call import PROGRAMS, kept_with_loss
from zojax._numerics import float_dtype
from zojax._scalars import traced_scalar
from zojax.search.engine.numpy_program import NoNumPyFormError, numpy_program
from zojax.search.engine.task import Problem
from zojax.search.spaces import Space

Calls = Callable[..., partial]


def plain_calls(problem: Problem) -> Calls:
    """`calls(x, *args, **extra)` is a call of `fun` at an encoded point x (d,)."""

    def calls(x: np.ndarray, *args: Any, **extra: Any) -> partial:
        return partial(problem.fun, problem.space.point(x), *args, **extra)

    return calls


def compiled_calls(problem: Problem) -> Calls:
    """The same for a function that JAX compiles. Spaces and budgets share its program."""
    program, dtype = _program_of(problem.fun), float_dtype()
    decode = _decoder(problem.space, dtype)

    def calls(x: np.ndarray, *args: Any, **extra: Any) -> partial:
        return partial(program, decode(x.astype(dtype)), *args, **extra)

    return calls


@kept_with_loss
def _program_of(fun: Callable[[], Callable]) -> Callable:
    def program(point: Any, *args: Any, **extra: Any) -> jax.Array:
        return traced_scalar(fun()(point, *args, **extra), name="fun").astype(float_dtype())

    return jax.jit(program)


@lru_cache(PROGRAMS)
def _decoder(space: Space, dtype: np.dtype) -> Callable[[np.ndarray], Any]:
    """`space.decode`, run by NumPy where all its domains allow it."""
    try:
        program, shapes = numpy_program(space.decode, space.low.astype(dtype))
    except NoNumPyFormError:
        return space.decode
    treedef = jax.tree.structure(shapes)
    return lambda x: jax.tree.unflatten(treedef, program(x))
