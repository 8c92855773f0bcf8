"""Steps on the device: compiled loops of up to a chunk of steps."""

from collections.abc import Callable
from functools import lru_cache, partial

import jax
import jax.numpy as jnp
import numpy as np

from zojax._call import has_tracers, untraceable
from zojax._kept import attributes_of, kept_with, kept_with_loss
from zojax._minimize.bound import bound
from zojax._minimize.run import MinimizeRun
from zojax._transform import apply_updates
from zojax._trees import PyTree, require_arrays
from zojax._verdict import zeroth_order_state

# Quicker to trace and to compile than `array.at[i].set`.
_with_entry = jax.lax.dynamic_update_index_in_dim


def device_loop(
    fun: Callable, args: tuple, tx, chunk: int, target: float | None
) -> Callable[[MinimizeRun, int], None]:
    """Up to `chunk` steps in one compiled while loop."""
    require_arrays("args", args)
    program = _programs(fun)(tx.update)(attributes_of(fun))
    stop_at = -np.inf if target is None else float(target)

    def advance(run: MinimizeRun, remaining: int) -> None:
        params, state, _, best = run.take()  # donated
        with untraceable("zojax traces fun. For a black box that JAX cannot trace pass jit=False."):
            steps, params, state, best, values, c = program(
                chunk, params, state, best, np.int32(min(chunk, remaining)), stop_at, args
            )
        require_host(values)  # fun may read a traced array
        values, c = np.asarray(values, np.float64)[: int(steps)], np.asarray(c)[: int(steps)]
        run.commit(params, state, best, values.tolist(), c)

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

        return jax.jit(run, static_argnums=0, donate_argnums=(1, 2, 3))

    return of


def _steps(fun: Callable, update: Callable, chunk: int, params, state, best, limit, stop_at, args):
    """Steps taken, the last parameters and state, the best, values and coefficients of the steps."""
    fun = bound(fun, args)

    def more(carry):
        i, limit, value, *_ = carry
        return (i < limit) & ~((i > 0) & (value <= stop_at))

    def step(carry):
        i, limit, _, params, state, best, values, coefficients = carry
        updates, state = update(None, state, params, value_fn=fun)
        found = zeroth_order_state(state)
        best = None if best is None else best.or_better(found.value, params)
        params = apply_updates(params, updates)
        values = _with_entry(values, found.value, i, 0)
        coefficients = _with_entry(coefficients, found.coefficients, i, 0)
        return i + 1, limit, found.value, params, state, best, values, coefficients

    found = zeroth_order_state(state)
    value, c = jnp.zeros_like(found.value), found.coefficients
    values, rows = jnp.zeros(chunk, value.dtype), jnp.zeros((chunk, *c.shape), c.dtype)
    start = (jnp.int32(0), limit, value, params, state, best, values, rows)
    i, _, _, params, state, best, values, rows = jax.lax.while_loop(more, step, start)
    return i, params, state, best, values, rows
