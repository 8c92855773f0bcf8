"""`minimize`: a whole run in one call, as jitted chunks of steps or, for host functions, by ask/tell."""

from collections.abc import Callable
from contextlib import nullcontext
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from zojax._call import attributes_of, has_tracers, kept_with, untraceable
from zojax._progress import progress_bar
from zojax._transform import ZerothOrder, ZerothOrderState, apply_updates
from zojax._types import (
    PyTree,
    as_key,
    marking_nan,
    require_count,
    require_number,
    structure_of,
)


class MinimizeResult(NamedTuple):
    """What a run found and what it took.

    Attributes:
      params: the last iterate.
      value: of the last step (`ZerothOrderState.value`), before its update, a float. Where the stencil
        does not visit x, as `central` does not, it is the mean over the evaluations around x and
        differs from fun(x) by some mu^2 times the curvature; call `fun(params)` for the value there.
      history: float64 of shape (steps,), the value of every step.
      steps: steps taken.
      evaluations: of the estimates, or None if the transformation does not tell; what an inner line
        search evaluates is not counted.
      skipped: directions left out because an evaluation was not finite.
      state: the last state of the transformation; pass it on to continue.
      message: why the run ended.
    """

    params: PyTree
    value: float
    history: np.ndarray
    steps: int
    evaluations: int | None
    skipped: int
    state: Any
    message: str

    def __str__(self) -> str:
        evaluations = "" if self.evaluations is None else f", {self.evaluations} evaluations"
        skipped = f" ({self.skipped} directions skipped)" if self.skipped else ""
        return (
            f"value {self.value:.6g} after {self.steps} steps{evaluations}{skipped}: {self.message}"
        )


class Progress(NamedTuple):
    """What a callback sees after a chunk of k steps.

    Attributes:
      step: steps taken.
      value: of the last step.
      params: the parameters.
      state: of the transformation.
      values: float64 of shape (k,), the value of every step of the chunk.
      coefficients: shape (k, N), `ZerothOrderState.coefficients` of every step of the chunk.
    """

    step: int
    value: float
    params: PyTree
    state: Any
    values: np.ndarray
    coefficients: np.ndarray


def minimize(
    fun: Callable,
    x0: PyTree,
    tx: optax.GradientTransformation,
    num_steps: int = 1000,
    key: int | jax.Array | None = None,
    *,
    state: Any = None,
    callback: Callable[[Progress], Any] | None = None,
    progress: bool = False,
    target: float | None = None,
    max_evaluations: int | None = None,
    chunk_size: int | None = None,
    jit: bool = True,
) -> MinimizeResult:
    """Minimises `fun(params)` from `x0` with a zeroth-order transformation.

    Args:
      fun: params -> scalar; traceable by JAX, or any Python function with `jit=False`. As under `jax.jit`,
        a function is traced once, for shapes and a `tx`, and not again by the next call.
      x0: initial parameters, a pytree.
      tx: `zojax.mezo(...)`, `zojax.zeroth_order(...)` or an optax chain around one.
      num_steps: steps at most.
      key: replaces the key of `tx`.
      state: of an earlier result, to continue its run from `x0=result.params`; a fresh one by default.
      callback: called with a `Progress` after every chunk; a true result ends the run.
      progress: show a bar with the value and steps/s (needs tqdm).
      target: end at the first step whose value, as in the result, is at most this.
      max_evaluations: the budget; the run ends before it would be exceeded.
      chunk_size: steps in one compiled loop, between callbacks; num_steps / 50, at most 100, by default.
      jit: False evaluates `fun` on the host, one call a point, with NumPy arrays (ask/tell). An exception
        ends the run and is raised; a NaN leaves its direction out.

    Returns:
      A `MinimizeResult`.

    Raises:
      ValueError, TypeError: counts that are not positive; a budget below one step; a state that `tx` does
        not have for these parameters; options that need
        the estimator of `tx` where it has none; a call inside `jit`, `vmap` or `grad`, where a
        `jax.lax.scan` over `tx.update` does the same.

    >>> import jax.numpy as jnp, optax, zojax
    >>> tx = zojax.zeroth_order(optax.adam(0.1), zojax.estimator(num_directions=4))
    >>> result = zojax.minimize(lambda x: jnp.sum((x - 3) ** 2), jnp.zeros(2), tx, 1000, target=1e-4)
    >>> result.message, bool(result.value <= 1e-4)
    ('target reached', True)
    """
    for name, value in (("fun", fun), ("tx.update", getattr(tx, "update", None))):
        if not callable(value):
            raise TypeError(f"{name} must be callable, got {value!r}; minimize(fun, x0, tx, ...).")
    if callback is not None and not callable(callback):
        raise TypeError(f"callback must be a function of a Progress, got {callback!r}.")
    if target is not None:
        require_number("target", target)
        if np.isnan(target):
            raise ValueError("target must be a number, got nan; leave it out to have none.")
    num_steps = require_count("num_steps", num_steps)
    default_chunk = min(100, max(1, num_steps // 50))
    chunk = require_count("chunk_size", default_chunk if chunk_size is None else chunk_size)
    per_step = tx.estimator.evaluations if isinstance(tx, ZerothOrder) else None
    limit = (
        num_steps
        if max_evaluations is None
        else min(num_steps, _affordable_steps(max_evaluations, per_step))
    )
    structure_of(x0)  # raises for leaves that are no arrays
    params = jax.tree.map(jnp.array, x0)  # a copy: the loop donates its parameters
    state = tx.init(params) if state is None else _like_init(state, tx, params)
    if key is not None:
        state = optax.tree.set(state, rng_key=as_key(key))
    _require_host((params, state))
    state = _copied(state)  # donated too, and may hold the caller's key or alias
    advance = _device_loop(fun, tx, chunk, target) if jit else _host_loop(fun, tx, chunk, target)
    with progress_bar(limit, "step") if progress else nullcontext() as bar:
        params, state, history, message = _chunks(
            advance, params, state, limit, target, callback, bar
        )
    if message is None:
        message = "all steps taken" if limit == num_steps else "evaluation budget spent"
    found = _zeroth_order_state(state)
    return MinimizeResult(
        params=params,
        value=history[-1],
        history=np.asarray(history),
        steps=len(history),
        evaluations=None if per_step is None else per_step * len(history),
        skipped=int(found.estimator_state.skipped),
        state=state,
        message=message,
    )


def _like_init(state, tx, params):
    """The state, if it is one that `tx` has for these parameters; its keys may be of any kind."""
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


def _require_host(arrays: PyTree) -> None:
    if has_tracers(arrays):
        raise TypeError(
            "zojax.minimize is a loop of the host, which jit, vmap and grad cannot trace: call it outside, "
            "or write the loop as a jax.lax.scan over tx.update and zojax.apply_updates."
        )


def _chunks(advance, params, state, limit, target, callback, bar):
    """Chunks of steps until the limit, the target or the callback; a message for the last two."""
    history: list[float] = []
    while len(history) < limit:
        params, state, values, c = advance(params, state, limit - len(history))
        history.extend(values)
        if bar is not None:
            bar.set_postfix(value=f"{history[-1]:.6g}", refresh=False)
            bar.update(len(values))
        stop = callback is not None and callback(
            # A copy: the next chunk is donated what this one returned.
            Progress(
                step=len(history),
                value=history[-1],
                params=_copied(params),
                state=_copied(state),
                values=np.asarray(values),
                coefficients=c,
            )
        )
        if target is not None and history[-1] <= target:
            return params, state, history, "target reached"
        if stop:
            return params, state, history, "stopped by callback"
    return params, state, history, None


@marking_nan
def _copied(tree: PyTree) -> PyTree:
    return jax.tree.map(jnp.copy, tree)


def _device_loop(fun, tx, chunk, target):
    """Up to `chunk` steps in one compiled while loop."""
    run = _programs(fun)(tx.update)(attributes_of(fun))
    stop_at = -np.inf if target is None else float(target)

    def advance(params, state, remaining):
        with untraceable("zojax traces fun. For a black box that JAX cannot trace pass jit=False."):
            taken, params, state, values, c = run(
                chunk, params, state, jnp.int32(min(chunk, remaining)), stop_at
            )
        _require_host(values)  # fun may read what is traced
        values, c = np.asarray(values, np.float64)[: int(taken)], np.asarray(c)[: int(taken)]
        return params, state, values.tolist(), c

    return advance


@kept_with
def _programs(fun):
    """What is compiled for a function and an update lives as long as both do."""
    return kept_with(partial(_program, fun))


def _program(fun: Callable[[], Callable], update: Callable[[], Callable]) -> Callable:
    @lru_cache(maxsize=1)
    def of(attributes):
        """For an object that is called while its attributes are these."""

        def run(*arguments):
            return _steps(fun(), update(), *arguments)

        return jax.jit(run, static_argnums=0, donate_argnums=(1, 2))

    return of


def _steps(fun: Callable, update: Callable, chunk: int, params, state, limit, stop_at):
    """Steps taken, the last parameters and state, values and coefficients of the steps."""

    def more(carry):
        i, limit, value, *_ = carry
        return (i < limit) & ~((i > 0) & (value <= stop_at))

    def step(carry):
        i, limit, _, params, state, values, coefficients = carry
        updates, state = update(None, state, params, value_fn=fun)
        params = apply_updates(params, updates)
        found = _zeroth_order_state(state)
        values = values.at[i].set(found.value)
        coefficients = coefficients.at[i].set(found.coefficients)
        return i + 1, limit, found.value, params, state, values, coefficients

    found = _zeroth_order_state(state)
    value, c = jnp.zeros_like(found.value), found.coefficients
    records = jnp.zeros(chunk, value.dtype), jnp.zeros((chunk, *c.shape), c.dtype)
    start = (jnp.int32(0), limit, value, params, state, *records)
    i, _, _, params, state, *records = jax.lax.while_loop(more, step, start)
    return i, params, state, *records


def _host_loop(fun, tx, chunk, target):
    """Up to `chunk` steps whose evaluations are calls of a Python function."""
    if not isinstance(tx, ZerothOrder):
        raise TypeError(
            "jit=False asks the estimator of tx for points, and tx has none: pass what "
            f"zojax.zeroth_order or a ready-made optimizer returns, got {type(tx).__name__}."
        )

    def advance(params, state, remaining):
        values, coefficients = [], []
        for _ in range(min(chunk, remaining)):
            key = jax.random.fold_in(state.rng_key, state.count)
            points, _ = tx.estimator.ask(key, params, step=state.count)
            points = jax.tree.map(_to_host, points)
            evaluated = [
                _as_float(fun(jax.tree.map(lambda x, e=e: x[e], points)))
                for e in range(tx.estimator.evaluations)
            ]
            updates, state = tx.update(None, state, params, values=np.asarray(evaluated))
            params = apply_updates(params, updates)
            values.append(float(state.value))
            coefficients.append(np.asarray(state.coefficients))
            if target is not None and values[-1] <= target:
                break
        return params, state, values, np.stack(coefficients)

    return advance


def _as_float(value) -> float:
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise TypeError(f"fun must return a number, got {value!r}.") from error


def _to_host(x: jax.Array):
    return x if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else np.asarray(x)


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


def _zeroth_order_state(state) -> ZerothOrderState:
    def is_leaf(x):
        return isinstance(x, ZerothOrderState)

    found = [x for x in jax.tree.leaves(state, is_leaf=is_leaf) if is_leaf(x)]
    if len(found) != 1:
        raise TypeError(
            f"tx must hold exactly one zojax.zeroth_order, found {len(found)}; "
            "wrap an optax optimizer: zojax.zeroth_order(optax.adam(1e-3))."
        )
    return found[0]
