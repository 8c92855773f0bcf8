"""Steps on the device: compiled loops of up to a chunk of steps."""

from collections.abc import Callable
from functools import lru_cache, partial

import jax
import numpy as np
from jax import lax

from zojax._call import has_tracers, untraceable
from zojax._kept import attributes_of, kept_with, kept_with_loss
from zojax._minimize.run import MinimizeRun, bound
from zojax._transform import apply_updates
from zojax._trees import PyTree, require_arrays
from zojax._verdict import zeroth_order_state


def device_loop(
    fun: Callable, args: tuple, tx, chunk: int, target: float | None
) -> Callable[[MinimizeRun, int], None]:
    """Up to `chunk` steps in one compiled while loop."""
    require_arrays("args", args)
    program = _programs(fun)(tx.update)(attributes_of(fun))
    stop_at = -np.inf if target is None else float(target)

    def advance(run: MinimizeRun, remaining: int) -> None:
        params, state, _, best = run.take()  # donated
        found, limit = zeroth_order_state(state), np.int32(min(chunk, remaining))
        # Zeros of the host: inside of the program they would be a kernel to compile.
        rows = np.zeros((chunk, 1 + len(found.coefficients)), found.value.dtype)
        dtype = found.coefficients.dtype
        with untraceable("zojax traces fun. For a black box that JAX cannot trace pass jit=False."):
            steps, params, state, best, rows = program(
                params, state, best, rows, limit, stop_at, args
            )
        require_host(rows)  # fun may read a traced array
        rows = np.asarray(rows)[: int(steps)]
        run.commit(params, state, best, rows[:, 0].tolist(), rows[:, 1:].astype(dtype))

    return advance


def require_host(arrays: PyTree) -> None:
    """Raises TypeError inside jit, vmap and grad."""
    if has_tracers(arrays):
        raise TypeError(
            "zojax.minimize is a loop of the host, which jit, vmap and grad cannot trace: call it outside, "
            "or write the loop as a jax.lax.scan over tx.update and zojax.apply_updates."
        )


@kept_with_loss
def _programs(fun):
    """The programs of a function and an update live as long as both do."""
    return kept_with(partial(_program, fun))


def _program(fun: Callable[[], Callable], update: Callable[[], Callable]) -> Callable:
    @lru_cache(maxsize=1)
    def of(attributes):
        """For a callable object while its attributes are these."""

        def run(*arguments):
            return _steps(fun(), update(), *arguments)

        return jax.jit(run, donate_argnums=(0, 1, 2))

    return of


def _steps(fun: Callable, update: Callable, params, state, best, rows, limit, stop_at, args):
    """Steps taken, the last parameters and state, the best, and rows of a value and coefficients."""
    fun = bound(fun, args)

    def more(carry):
        i, limit, value, *_ = carry
        return lax.bitwise_and(lax.lt(i, limit), lax.bitwise_not(lax.le(value, stop_at)))

    def step(carry):
        i, limit, _, params, state, best, rows = carry
        updates, state = update(None, state, params, value_fn=fun)
        found = zeroth_order_state(state)
        best = None if best is None else best.or_better(found.value, params)
        params = apply_updates(params, updates)
        row = lax.concatenate(
            [found.value[None], lax.convert_element_type(found.coefficients, rows.dtype)], 0
        )
        # Quicker to trace and to compile than `rows.at[i].set`.
        rows = lax.dynamic_update_index_in_dim(rows, row, i, 0)
        return lax.add(i, np.int32(1)), limit, found.value, params, state, best, rows

    start = (np.int32(0), limit, np.asarray(np.nan, rows.dtype), params, state, best, rows)
    # A single step needs no loop, which takes time to compile.
    loop = lax.while_loop if len(rows) > 1 else lambda more, step, carry: step(carry)
    i, _, _, params, state, best, rows = loop(more, step, start)
    return i, params, state, best, rows
