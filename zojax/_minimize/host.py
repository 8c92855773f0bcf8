"""Steps on the host, whose evaluations are calls of a Python function."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from zojax._evaluation import Evaluation, Evaluator
from zojax._minimize.run import Best, MinimizeRun
from zojax._scalars import host_scalar
from zojax._transform import ZerothOrder, apply_updates
from zojax._trees import PyTree, floats_only


def host_loop(
    evaluator: Evaluator,
    catch: tuple[type[Exception], ...],
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
    call = evaluator.call(fun)

    def advance(run: MinimizeRun, remaining: int) -> None:
        for _ in range(min(chunk, remaining)):
            points = _points(tx, run)
            ended = evaluator.in_order(call, points)
            values = [_value(evaluation, catch, run) for evaluation in ended]
            _step(tx, run, np.array(values))
            if target is not None and run.values[-1] <= target:
                break

    return advance


def _value(evaluation: Evaluation, catch: tuple[type[Exception], ...], run: MinimizeRun) -> float:
    try:
        returned = evaluation.result().returned
    except catch as error:
        run.caught, run.error = run.caught + 1, error
        return np.nan
    return host_scalar(returned)


def _points(tx: ZerothOrder, run: MinimizeRun) -> list[PyTree]:
    """The points of the next step, as NumPy arrays."""
    params, state, *_ = run.iterate
    key = jax.random.fold_in(state.rng_key, state.count)
    asked, _ = tx.estimator.ask(key, params, step=state.count, state=state.estimator_state)
    points = jax.tree.map(_to_host, asked)
    return [jax.tree.map(lambda x, e=e: x[e], points) for e in range(tx.estimator.evaluations)]


def _step(tx: ZerothOrder, run: MinimizeRun, values: np.ndarray) -> None:
    params, state, _, best = run.iterate
    updates, state = tx.update(None, state, params, values=values)
    if best is not None and state.value < best.value:
        best = Best(state.value, floats_only(params))
    row = np.asarray(state.coefficients)
    run.commit(apply_updates(params, updates), state, best, [float(state.value)], [row])


def _to_host(x: jax.Array):
    return x if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else np.asarray(x)
