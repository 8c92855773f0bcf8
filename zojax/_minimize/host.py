"""Steps on the host, whose evaluations are calls of a Python function."""

from collections.abc import Callable
from concurrent.futures import Executor
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from zojax._minimize.run import Best, MinimizeRun
from zojax._scalars import host_scalar
from zojax._transform import ZerothOrder, apply_updates
from zojax._trees import PyTree, floats_only


def host_loop(
    catch: tuple[type[Exception], ...],
    executor: Executor | None,
    fun: Callable,
    tx: Any,
    chunk: int,
    target: float | None,
) -> Callable[[MinimizeRun, int], None]:
    """Up to `chunk` steps whose evaluations are calls of a Python function."""
    if not isinstance(tx, ZerothOrder):
        raise TypeError(
            "jit=False asks the estimator of tx for points, and tx has none: pass what "
            f"zojax.zeroth_order or a ready-made optimizer returns, got {type(tx).__name__}."
        )
    evaluate = partial(_evaluate, fun, catch, executor)

    def advance(run: MinimizeRun, remaining: int) -> None:
        for _ in range(min(chunk, remaining)):
            _host_step(evaluate, tx, run)
            if target is not None and run.values[-1] <= target:
                break

    return advance


def _evaluate(
    fun: Callable, catch, executor: Executor | None, run: MinimizeRun, points: list[PyTree]
) -> np.ndarray:
    """The values of points in their order. An exception cancels calls that have not begun."""
    futures = [] if executor is None else [executor.submit(fun, point) for point in points]
    calls = [future.result for future in futures] or [partial(fun, point) for point in points]
    try:
        return np.array([_value(call, catch, run) for call in calls])
    finally:
        for future in futures:
            future.cancel()


def _value(call: Callable[[], Any], catch, run: MinimizeRun) -> float:
    try:
        returned = call()
    except catch as error:
        run.caught, run.error = run.caught + 1, error
        return np.nan
    return host_scalar(returned)


def _host_step(evaluate: Callable, tx: ZerothOrder, run: MinimizeRun) -> None:
    params, state, _, best = run.iterate
    key = jax.random.fold_in(state.rng_key, state.count)
    points, _ = tx.estimator.ask(key, params, step=state.count, state=state.estimator_state)
    points = jax.tree.map(_to_host, points)
    evaluated = evaluate(
        run, [jax.tree.map(lambda x, e=e: x[e], points) for e in range(tx.estimator.evaluations)]
    )
    updates, state = tx.update(None, state, params, values=evaluated)
    if best is not None and state.value < best.value:
        best = Best(state.value, floats_only(params))
    row = np.asarray(state.coefficients)
    run.commit(apply_updates(params, updates), state, best, [float(state.value)], [row])


def _to_host(x: jax.Array):
    return x if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else np.asarray(x)
