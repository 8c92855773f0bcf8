"""Whether JAX can compile a function: it is traced twice, and must be the same program."""

import inspect
import re
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from zojax._call import kept_with
from zojax._keys import as_key
from zojax._numerics import float_dtype
from zojax.search.spaces import Space


@kept_with
def _found(fun: Callable[[], Callable]) -> dict:
    """Where `is_traceable` remembers what it tried with a function."""
    return {}


def is_traceable(fun: Callable, space: Space, args: tuple, with_key: bool) -> bool:
    """Whether `_try_to_trace` succeeds, tried once for a function, a space and types of args."""
    if traced_anew(fun) is not fun:
        return _try_to_trace(fun, space, args, with_key)
    try:
        leaves, treedef = jax.tree.flatten(args)
        types = tuple((type(x), jnp.shape(x), jnp.result_type(x)) for x in leaves)
        found, tried = _found(fun), (space, with_key, float_dtype(), treedef, types)
        if tried not in found:
            found[tried] = _try_to_trace(fun, space, args, with_key)
    except TypeError:  # args that are no arrays, a function or a space that cannot be remembered
        return _try_to_trace(fun, space, args, with_key)
    return found[tried]


def _try_to_trace(fun: Callable, space: Space, args: tuple, with_key: bool) -> bool:
    """Whether JAX can trace `fun` at a point of the space, and its value depends on the point.

    Traced twice: what differs, such as a draw from a generator of Python's or NumPy's, a clock or a
    counter, would be a constant of the program.
    """
    if not all(d.traceable for d in space.domains):
        return False

    def attempt(x, args, key):
        value = fun(space.decode(x), *args, **({"key": key} if with_key else {}))
        is_number = jnp.shape(value) == () and not jnp.iscomplexobj(value)
        if not (isinstance(value, jax.core.Tracer) and is_number):
            raise TypeError("the value is no number that depends on the point")
        return value

    def traced():
        # A new function each time, which JAX does not find in its caches.
        program = jax.make_jaxpr(lambda *inputs: attempt(*inputs))
        return program(space.low.astype(float_dtype()), args, as_key(0))

    try:
        return _is_same(traced(), traced())
    except Exception:  # whatever it was: called on the host it shows, and counts as a failure
        return False


def _is_same(first, second) -> bool:
    """Whether two programs are equal, but for the addresses of Python's objects."""
    texts = [re.sub(r"0x[0-9a-f]+", "", str(program.jaxpr)) for program in (first, second)]
    return texts[0] == texts[1] and all(map(_is_equal, first.consts, second.consts))


def _is_equal(a, b) -> bool:
    """Whether two constants of programs are."""
    if a is b:  # the user's own array, which may be large
        return True
    if jnp.issubdtype(jnp.result_type(a), jax.dtypes.prng_key):
        a, b = jax.random.key_data(a), jax.random.key_data(b)
    a, b = np.asarray(a), np.asarray(b)
    return np.array_equal(a, b, equal_nan=a.dtype.kind in "fc")


def traced_anew(fun: Callable) -> Callable:
    """`fun`; where it belongs to an object, which may change between searches, a new function each time."""
    return partial(fun) if inspect.ismethod(fun) or inspect.ismethod(fun.__call__) else fun
