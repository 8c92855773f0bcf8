"""The values of points, for loops of ask and tell."""

from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from typing import Any

import numpy as np

from zojax._evaluation import Evaluator, require_executor, require_limits
from zojax._warnings import warn


def evaluate(
    fun: Callable[..., Any],
    points: Iterable[Any],
    executor: Executor | None = None,
    *,
    args: tuple = (),
    timeout: float | None = None,
    retries: int = 0,
    catch: tuple[type[Exception], ...] = (),
) -> np.ndarray:
    """`fun(point, *args)` of all points, for a loop of `ask` and `tell`.

    Args:
      fun: (point, *args) -> scalar.
      points: any iterable.
      executor: of `concurrent.futures`; None calls here, one after the other.
      args: further arguments of `fun`, a tuple.
      timeout: seconds of an evaluation. A late one counts as NaN, and its call is ended.
      retries: how often an evaluation is made again after it raised or was late, except after `catch`.
      catch: exception types that count as NaN. Any other exception is raised.

    Returns:
      The values in the order of the points, float64 of shape (n,).

    Raises:
      ValueError, TypeError: an argument out of range; a function that cannot be sent; no scalar.
      Exception: of `fun`, once its retries are spent.
      RuntimeError: the executor broke or was shut down.

    Warns:
      UserWarning: evaluations that failed.

    >>> import jax.numpy as jnp, zojax
    >>> from concurrent.futures import ThreadPoolExecutor
    >>> estimator, x = zojax.estimator(num_directions=4), jnp.ones(3)
    >>> points, asked = estimator.ask(0, x)
    >>> with ThreadPoolExecutor(2) as pool:
    ...     values = evaluate(lambda point: float((point**2).sum()), points, pool)
    >>> estimator.tell(asked, values).shape
    (3,)
    """
    from zojax._failures import as_catch
    from zojax._scalars import host_scalar  # imports JAX, which workers may not need

    require_executor(executor)
    limit, catch = require_limits(timeout, retries, executor), as_catch(catch)
    values, errors = [], []
    with Evaluator(executor, timeout=limit, retries=retries, final=catch) as evaluator:
        for task in evaluator.in_order(evaluator.call(fun, tuple(args)), points):
            try:
                values.append(host_scalar(task.result().returned))
            except (*catch, *evaluator.losses) as error:
                values.append(np.nan)
                errors.append(error)
    if errors:
        warn(f"{len(errors)} of {len(values)} evaluations failed and count as nan: {errors[-1]!r}")
    return np.array(values, np.float64)
