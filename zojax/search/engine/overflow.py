"""A warning about overflow in the 32-bit integers of a compiled function."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from zojax._warnings import warn
from zojax.search.engine.compiled import type_of_values
from zojax.search.engine.result import SearchResult
from zojax.search.engine.task import Problem
from zojax.search.spaces._precision import X64


def warn_of_overflow(problem: Problem, args, result: SearchResult) -> None:
    """Warns if the best value is an integer, and wider integers give another value."""
    best, value = result.best, result.best_value
    if not value.is_integer() or value not in result.history.values:  # the last for a given value
        return
    dtype = type_of_values(problem, args)
    if not jnp.issubdtype(dtype, jnp.integer) or dtype.itemsize == 8:
        return
    try:
        with jax.enable_x64(True):
            exact = np.asarray(problem.fun(best, *args)).item()
    except ArithmeticError as error:  # Python raises for a division by 0
        exact = repr(error)
    except Exception:  # fun works with JAX's arrays only
        return
    if isinstance(exact, str) or not math.isclose(exact, value, rel_tol=1e-6):
        warn(
            f"at {best} the compiled fun returned {value:.0f} in 32-bit integers, but {exact} on the host "
            f"in wider ones: multiply as floats (1.0 * n), pass jit=False, or {X64}."
        )
