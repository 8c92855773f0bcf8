"""`minimize`: a whole run in one call, as jitted chunks of steps or, for host functions, by ask/tell."""

from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import nullcontext
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from zojax._checks import brief, require_count, require_flag, require_number
from zojax._evaluation import Evaluator, require_executor, require_limits
from zojax._failures import as_catch, attach
from zojax._keys import as_key
from zojax._minimize.device import device_loop, require_host
from zojax._minimize.host import host_loop
from zojax._minimize.result import MinimizeResult, Progress
from zojax._minimize.run import MinimizeRun, bound
from zojax._progress import progress_bar
from zojax._transform import ZerothOrder
from zojax._trees import PyTree, Split, copied, floats_only, structure_of
from zojax._verdict import Facts, facts, is_stuck, judged, remedy, zeroth_order_state
from zojax._warnings import warn


def minimize(
    fun: Callable[[Any], Any],
    x0: PyTree,
    tx: optax.GradientTransformation,
    num_steps: int = 1000,
    key: int | jax.Array | None = None,
    *,
    args: tuple = (),
    state: Any = None,
    callback: Callable[[Progress], Any] | None = None,
    progress: bool = False,
    target: float | None = None,
    max_evaluations: int | None = None,
    chunk_size: int | None = None,
    jit: bool = True,
    keep_best: bool | None = None,
    catch: tuple[type[Exception], ...] = (),
    executor: Executor | None = None,
    timeout: float | None = None,
    retries: int = 0,
) -> MinimizeResult:
    """Minimises `fun(params, *args)` from `x0` with a zeroth-order transformation.

    Args:
      fun: (params, *args) -> scalar; traceable by JAX, or any Python function with `jit=False`. As under
        `jax.jit`, a function is traced once for shapes and a `tx`; the next call does not trace it again.
      x0: initial parameters, a pytree.
      tx: `zojax.mezo(...)`, `zojax.zeroth_order(...)` or an optax chain around one.
      num_steps: steps at most.
      key: replaces the key of `tx`.
      args: further arguments of `fun`, a tuple: arrays or pytrees of arrays, of any kind with `jit=False`.
        Give arrays that change from call to call, or that span several processes, here.
      state: of an earlier result, to continue its run from `x0=result.params`; a fresh one by default.
      callback: called with a `Progress` after every chunk; a true result ends the run.
      progress: show a bar with the value and steps/s (needs tqdm).
      target: end at the first step whose value, as in the result, is at most this.
      max_evaluations: the budget of evaluations, which the run does not exceed.
      chunk_size: steps in one compiled loop, between callbacks; num_steps / 50, at most 100, by default.
      jit: False evaluates `fun` on the host, one call a point, with NumPy arrays (ask/tell). A NaN leaves
        its direction out.
      keep_best: whether to keep the parameters with the least value (`MinimizeResult.best_params`), in a
        second copy of the float leaves. None: only with `jit=False`.
      catch: exception types of a host `fun` that count as NaN. Any other exception ends the run.
      executor: of `concurrent.futures`, evaluates all points of a step at once, with `jit=False`: threads,
        processes or a cluster (`zojax.executors`). Results do not depend on the order of completion.
      timeout: seconds of an evaluation with `jit=False`. A late one counts as NaN, and its call is ended.
      retries: how often an evaluation with `jit=False` is made again after it raised or was late, except
        after exceptions in `catch`.

    Returns:
      A `MinimizeResult`. A keyboard interrupt ends a run with `jit=False` and is not raised: what was
      found is returned. So it does in the callback of a compiled run; elsewhere in one it is raised.

    Warns:
      UserWarning: more than half of the run's differences are zero or below the resolution of its values,
        in its first half too. If they were resolved at first, only the message says so.

    Raises:
      ValueError, TypeError: counts that are not positive; a budget below one step; a state of another
        `tx` or other parameters; an option that needs the estimator of `tx`, and `tx` has none; a call
        inside `jit`, `vmap` or `grad`: use a `jax.lax.scan` over `tx.update`.
      Exception: of `fun` or the callback. Its attribute `partial_result` is the `MinimizeResult` of the
        steps before, unless a compiled chunk was running. The callback has seen all these steps.

    >>> import jax.numpy as jnp, optax, zojax
    >>> tx = zojax.zeroth_order(optax.adam(0.1), zojax.estimator(num_directions=4))
    >>> result = zojax.minimize(lambda x: jnp.sum((x - 3) ** 2), jnp.zeros(2), tx, 1000, target=1e-4)
    >>> result.message, bool(result.value <= 1e-4)
    ('target reached', True)
    """
    _check_arguments(fun, tx, args, callback, target, progress=progress, jit=jit)
    keep_best = not jit if keep_best is None else keep_best
    require_flag("keep_best", keep_best)
    num_steps = require_count("num_steps", num_steps)
    default_chunk = min(100, max(1, num_steps // 50))
    chunk = require_count("chunk_size", default_chunk if chunk_size is None else chunk_size)
    limit = num_steps
    if max_evaluations is not None:
        limit = min(num_steps, _affordable_steps(max_evaluations, _per_step(tx)))
    catch = as_catch(catch)
    limit_of_call = require_limits(timeout, retries, executor)
    of_calls = {"catch": catch, "executor": executor, "timeout": timeout, "retries": retries}
    for name, given in of_calls.items():
        if given and jit:
            raise ValueError(f"{name} is for functions on the host: pass jit=False with it.")
    require_executor(executor)
    params, state = _begin(tx, x0, state, key)
    before = facts(state)
    run = MinimizeRun(params, state, keep=keep_best)
    evaluator = Evaluator(executor, timeout=limit_of_call, retries=retries, final=catch)
    if jit:
        advance = device_loop(fun, tuple(args), tx, chunk, target)
    else:
        as_nan = (*catch, *evaluator.losses)
        advance = host_loop(evaluator, as_nan, bound(fun, tuple(args)), tx, chunk, target)
    try:
        with evaluator, progress_bar(limit, "step") if progress else nullcontext() as bar:
            reason = _chunks(advance, run, limit, target, callback, bar)
    except BaseException as error:
        stopped = isinstance(error, KeyboardInterrupt)
        if run.last is None or (stopped and not run.last.steps):
            raise
        reason = "interrupted" if stopped else f"ended by {type(error).__name__}"
        result = _result(run, tx, before, reason)
        attach(error, result)
        run.report(callback)  # a recorder has every step that the result has
        if not stopped:
            raise
        return result
    if reason is None:
        reason = "all steps taken" if limit == num_steps else "evaluation budget spent"
    return _result(run, tx, before, reason, warns=True)


def _check_arguments(fun, tx, args, callback, target, **flags) -> None:
    if not isinstance(args, (tuple, list)):
        raise TypeError(
            f"args must be a tuple of further arguments of fun, got {brief(args)}: args=(batch,)."
        )
    for name, value in (("fun", fun), ("tx.update", getattr(tx, "update", None))):
        if not callable(value):
            raise TypeError(f"{name} must be callable, got {value!r}; minimize(fun, x0, tx, ...).")
    if callback is not None and not callable(callback):
        raise TypeError(f"callback must be a function of a Progress, got {callback!r}.")
    if target is not None:
        require_number("target", target)
        if np.isnan(target):
            raise ValueError("target must be a number, got nan; leave it out to have none.")
    for name, value in flags.items():
        require_flag(name, value)


def _begin(tx, x0: PyTree, state: Any, key) -> tuple[PyTree, Any]:
    """The first parameters and state, copies of the caller's: the loop donates them."""
    structure_of(x0, "x0")  # raises for leaves that are not arrays
    params = copied(x0)
    state = tx.init(params) if state is None else _like_init(state, tx, params)
    if key is not None:
        state = optax.tree.set(state, rng_key=as_key(key))
    require_host((params, state))
    return params, copied(state)


def _result(
    run: MinimizeRun, tx, before: Facts, reason: str, warns: bool = False
) -> MinimizeResult:
    params, state, steps, best = run.iterate
    history = np.asarray(run.values[:steps], np.float64)
    found = zeroth_order_state(state)
    per_step = _per_step(tx)
    best_value = float(np.fmin.reduce(history, initial=np.nan))
    best_params = None
    if best is not None and not np.isnan(best_value):
        best_params = Split.of(params).join(jax.tree.leaves(best.floats))
    return MinimizeResult(
        params=params,
        value=float(history[-1]) if steps else np.nan,
        history=history,
        steps=steps,
        evaluations=None if per_step is None else per_step * steps,
        skipped=int(found.estimator_state.skipped),
        state=state,
        message="; ".join(filter(None, [reason, *_remarks(run, tx, before, warns)])),
        best_value=best_value,
        best_params=best_params,
    )


def _remarks(run: MinimizeRun, tx, before: Facts, warns: bool) -> list[str]:
    """The verdict on the run, and the exceptions of `fun`."""
    params, state, steps, _ = run.iterate
    if not steps:
        return []
    of = facts(state).since(before, run.values[:steps], run.resolved_at_first)
    said = judged(of)
    if warns and is_stuck(of):
        if isinstance(tx, ZerothOrder) and jax.tree.leaves(floats_only(params)):
            said = judged(of, remedy(of, tx, params, zeroth_order_state(state)))
        warn(said)
    caught = f"{run.caught} evaluations raised, the last {run.error!r}" if run.caught else ""
    return [said, caught]


def _like_init(state, tx, params):
    """The state; raises ValueError unless `tx` has such a state for these parameters. Keys may be raw."""
    own = jax.eval_shape(tx.init, params)
    theirs, ours = jax.tree.structure(state), jax.tree.structure(own)
    if theirs != ours:
        raise ValueError(
            f"state has another structure than tx.init(x0): {theirs} instead of {ours}; "
            "give the state of a result of this tx, or none."
        )
    for x, like in zip(jax.tree.leaves(state), jax.tree.leaves(own), strict=True):
        is_key = jnp.issubdtype(like.dtype, jax.dtypes.prng_key)
        if not is_key and (jnp.shape(x), jnp.asarray(x).dtype) != (like.shape, like.dtype):
            raise ValueError(
                f"state has {jnp.asarray(x).dtype}{list(jnp.shape(x))} where tx.init(x0) has "
                f"{like.dtype}{list(like.shape)}; give the state of a result of this tx and x0."
            )
    return state


def _chunks(advance, run: MinimizeRun, limit, target, callback, bar) -> str | None:
    """Runs chunks until the limit, the target or the callback; returns a message for the last two."""
    while (begun := run.iterate.steps) < limit:
        advance(run, limit - begun)
        value = run.values[-1]
        if bar is not None:
            bar.set_postfix(value=f"{value:.6g}", refresh=False)
            bar.update(run.iterate.steps - begun)
        stop = run.report(callback)
        if target is not None and value <= target:
            return "target reached"
        if stop:
            return "stopped by callback"
    return None


def _per_step(tx) -> int | None:
    """Evaluations of a step, if `tx` has an estimator."""
    return tx.estimator.evaluations if isinstance(tx, ZerothOrder) else None


def _affordable_steps(max_evaluations, per_step) -> int:
    budget = require_count("max_evaluations", max_evaluations)
    if per_step is None:
        raise TypeError(
            "max_evaluations needs the estimator of tx: pass what zojax.zeroth_order or a "
            "ready-made optimizer returns, or limit num_steps."
        )
    if budget < per_step:
        raise ValueError(
            f"max_evaluations must allow one step of {per_step}, got {max_evaluations}."
        )
    return budget // per_step
