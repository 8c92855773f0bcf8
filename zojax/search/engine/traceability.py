"""Whether JAX can compile a function: two traces must give the same program."""

import inspect
import re
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from zojax._call import kept_with
from zojax._keys import as_key
from zojax._numerics import float_dtype
from zojax._scalars import traced_values
from zojax.search.engine.task import Problem


@kept_with
def _found(fun: Callable[[], Callable]) -> dict:
    """The remembered answers of `is_traceable` for a function."""
    return {}


def is_traceable(problem: Problem, args: tuple) -> bool:
    """Whether `_try_to_trace` succeeds, tried once per function, space and types of args."""
    fun = problem.fun
    if traced_anew(fun) is not fun:
        return _try_to_trace(problem, args)
    try:
        leaves, treedef = jax.tree.flatten(args)
        types = tuple((type(x), jnp.shape(x), jnp.result_type(x)) for x in leaves)
        found, tried = _found(fun), (*_read(problem), float_dtype(), treedef, types)
        if tried not in found:
            found[tried] = _try_to_trace(problem, args)
    except TypeError:  # args that are no arrays, or an unhashable function or space
        return _try_to_trace(problem, args)
    return found[tried]


def _read(problem: Problem) -> tuple:
    """The parts of a problem that a trace reads."""
    return problem.space, problem.with_key, problem.value_shape


def _try_to_trace(problem: Problem, args: tuple) -> bool:
    """Whether JAX can trace `fun`, and its value depends on the point.

    Two traces must agree. A NumPy random number, a clock or a counter would become a constant.
    """
    space, with_key, value_shape = _read(problem)
    if not all(d.traceable for d in space.domains):
        return False

    def attempt(x, args, key):
        value = problem.fun(space.decode(x), *args, **({"key": key} if with_key else {}))
        if value_shape:
            value = traced_values(value, value_shape)[0]
        is_number = jnp.shape(value) == () and not jnp.iscomplexobj(value)
        if not (isinstance(value, jax.core.Tracer) and is_number):
            raise TypeError("the value is not a number that depends on the point")
        return value

    def traced():
        # A new function each time, so that JAX's caches do not answer.
        program = jax.make_jaxpr(lambda *inputs: attempt(*inputs))
        return program(space.low.astype(float_dtype()), args, as_key(0))

    try:
        first, second = traced(), traced()
        # Up to the addresses of Python objects.
        texts = [re.sub(r"0x[0-9a-f]+", "", str(program.jaxpr)) for program in (first, second)]
        return texts[0] == texts[1] and all(map(_is_equal, first.consts, second.consts))
    except Exception:  # of any kind: on the host, it counts as a failed evaluation
        return False


def _is_equal(a, b) -> bool:
    """Whether two constants of programs are equal."""
    if a is b:  # the user's own, perhaps large, array
        return True
    if jnp.issubdtype(jnp.result_type(a), jax.dtypes.prng_key):
        a, b = jax.random.key_data(a), jax.random.key_data(b)
    a, b = np.asarray(a), np.asarray(b)
    return np.array_equal(a, b, equal_nan=a.dtype.kind in "fc")


def traced_anew(fun: Any) -> Callable:
    """`fun`, or a new function each time for methods and callable objects, whose state may change."""
    return partial(fun) if inspect.ismethod(fun) or inspect.ismethod(fun.__call__) else fun
