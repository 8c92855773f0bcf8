"""`minimize`: a whole run in one call, as jitted chunks of steps or, for host functions, by ask/tell."""

import warnings
from collections.abc import Callable
from contextlib import nullcontext
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from zojax._call import attributes_of, has_tracers, kept_with, kept_with_loss, untraceable
from zojax._checks import require_count, require_flag, require_number
from zojax._failures import as_catch
from zojax._keys import as_key
from zojax._numerics import marking_nan
from zojax._progress import progress_bar
from zojax._scalars import host_scalar
from zojax._transform import ZerothOrder, apply_updates
from zojax._trees import PyTree, floats_only, replace_floats, structure_of
from zojax._verdict import Facts, facts, is_stuck, judged, remedy, zeroth_order_state


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
      message: why the run ended and, after a semicolon, what went wrong (`zojax.verdict`, of this call).
      best_value: the least entry of `history`, NaN where none is finite. Where the stencil does not visit
        x it is a mean around x, as `value` is.
      best_params: the parameters of the step with `best_value`, before its update; None in a compiled run
        without `keep_best=True`, and where no value is finite.
    """

    params: PyTree
    value: float
    history: np.ndarray
    steps: int
    evaluations: int | None
    skipped: int
    state: Any
    message: str
    best_value: float
    best_params: PyTree | None

    def __str__(self) -> str:
        evaluations = "" if self.evaluations is None else f", {self.evaluations} evaluations"
        skipped = f" ({self.skipped} directions skipped)" if self.skipped else ""
        return (
            f"value {self.value:.6g} after {self.steps} steps{evaluations}{skipped}: {self.message}"
        )

    def plot(self, ax=None):
        """Draws values and the least so far against steps (needs matplotlib); returns the axes."""
        try:
            import matplotlib.pyplot as plt
        except ImportError as error:
            raise ImportError("plot() needs matplotlib: pip install matplotlib.") from error
        ax = plt.subplots(figsize=(6, 4))[1] if ax is None else ax
        steps = np.arange(1, len(self.history) + 1)
        ax.plot(steps, self.history, ".", ms=2, alpha=0.4, label="value")
        ax.step(steps, np.fmin.accumulate(self.history), where="post", label="least so far")
        shown = self.history[np.isfinite(self.history)]
        if len(shown) and shown.min() > 0 and shown.max() > 100 * shown.min():
            ax.set_yscale("log")
        ax.set(xlabel="steps", ylabel="value", title=f"least {self.best_value:.6g}")
        ax.legend(frameon=False)
        return ax


class Progress(NamedTuple):
    """What a callback sees after a chunk of k steps, or the part of one that an exception ended.

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
    keep_best: bool | None = None,
    catch: tuple[type[Exception], ...] = (),
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
      jit: False evaluates `fun` on the host, one call a point, with NumPy arrays (ask/tell). A NaN leaves
        its direction out.
      keep_best: whether to keep the parameters with the least value (`MinimizeResult.best_params`), which
        takes memory for one more copy of the float leaves. None: only with `jit=False`.
      catch: exception types of a host `fun` that count as NaN. Any other exception ends the run.

    Returns:
      A `MinimizeResult`. A keyboard interrupt ends a run with `jit=False` and is not raised: what was
      found is returned. So it does in the callback of a compiled run; elsewhere in one it is raised.

    Warns:
      UserWarning: more than half of the run's differences are zero or below the resolution of its values,
        in its first half too; where they were resolved at first, the message alone says so.

    Raises:
      ValueError, TypeError: counts that are not positive; a budget below one step; a state that `tx` does
        not have for these parameters; options that need
        the estimator of `tx` where it has none; a call inside `jit`, `vmap` or `grad`, where a
        `jax.lax.scan` over `tx.update` does the same.
      Exception: what `fun` or the callback raises. Its attribute `partial_result` is the `MinimizeResult`
        of the steps before, unless a compiled chunk was running; the callback has seen them all.

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
    for name, value in (("progress", progress), ("jit", jit)):
        require_flag(name, value)
    keep_best = not jit if keep_best is None else keep_best
    require_flag("keep_best", keep_best)
    num_steps = require_count("num_steps", num_steps)
    default_chunk = min(100, max(1, num_steps // 50))
    chunk = require_count("chunk_size", default_chunk if chunk_size is None else chunk_size)
    per_step = tx.estimator.evaluations if isinstance(tx, ZerothOrder) else None
    limit = (
        num_steps
        if max_evaluations is None
        else min(num_steps, _affordable_steps(max_evaluations, per_step))
    )
    catch = as_catch(catch)
    if catch and jit:
        raise ValueError("catch is for functions on the host: pass jit=False with it.")
    structure_of(x0, "x0")  # raises for leaves that are no arrays
    params = jax.tree.map(jnp.array, x0)  # a copy: the loop donates its parameters
    state = tx.init(params) if state is None else _like_init(state, tx, params)
    if key is not None:
        state = optax.tree.set(state, rng_key=as_key(key))
    _require_host((params, state))
    state = _copied(state)  # donated too, and may hold the caller's key or alias
    before = facts(state)
    run = _Run(params, state, keep=keep_best)
    loop = _device_loop if jit else partial(_host_loop, catch)
    advance = loop(fun, tx, chunk, target)
    try:
        with progress_bar(limit, "step") if progress else nullcontext() as bar:
            reason = _chunks(advance, run, limit, target, callback, bar)
    except BaseException as error:
        stopped = isinstance(error, KeyboardInterrupt)
        if run.taken is None or (stopped and not run.taken.steps):
            raise
        reason = "interrupted" if stopped else f"ended by {type(error).__name__}"
        error.partial_result = result = _result(run, tx, before, reason)
        run.report(callback)  # a recorder has every step that the result has
        if not stopped:
            raise
        return result
    if reason is None:
        reason = "all steps taken" if limit == num_steps else "evaluation budget spent"
    return _result(run, tx, before, reason, warn=True)


def _result(run: "_Run", tx, before: Facts, reason: str, warn: bool = False) -> MinimizeResult:
    params, state, steps, best = run.taken
    history = np.asarray(run.values[:steps], np.float64)
    found = zeroth_order_state(state)
    per_step = tx.estimator.evaluations if isinstance(tx, ZerothOrder) else None
    best_value = float(np.fmin.reduce(history, initial=np.nan))
    is_kept = best is not None and not np.isnan(best_value)
    return MinimizeResult(
        params=params,
        value=float(history[-1]) if steps else np.nan,
        history=history,
        steps=steps,
        evaluations=None if per_step is None else per_step * steps,
        skipped=int(found.estimator_state.skipped),
        state=state,
        message="; ".join(filter(None, [reason, *_remarks(run, tx, before, warn)])),
        best_value=best_value,
        best_params=replace_floats(params, best.floats) if is_kept else None,
    )


def _remarks(run: "_Run", tx, before: Facts, warn: bool) -> list[str]:
    """What went wrong in the run, and what `fun` raised."""
    params, state, steps, _ = run.taken
    if not steps:
        return []
    of = facts(state).since(before, run.values[:steps], run.resolved_at_first)
    said = judged(of)
    if warn and is_stuck(of):
        if isinstance(tx, ZerothOrder):
            said = judged(of, remedy(of, tx, params, zeroth_order_state(state)))
        warnings.warn(said, stacklevel=4)
    caught = f"{run.caught} evaluations raised, the last {run.error!r}" if run.caught else ""
    return [said, caught]


class _Taken(NamedTuple):
    """The steps that a run has taken."""

    params: PyTree
    state: Any
    steps: int
    best: "_Best | None"


class _Best(NamedTuple):
    """The float leaves of the parameters with the least value so far."""

    value: jax.Array
    floats: PyTree

    def or_better(self, value, params: PyTree) -> "_Best":
        better = value < self.value
        keep = partial(jnp.where, better)
        return _Best(keep(value, self.value), jax.tree.map(keep, floats_only(params), self.floats))


class _Run:
    """A run so far. An interrupt at any moment leaves it at one step or at the next.

    Attributes:
      taken: replaced as a whole; None while a compiled chunk holds the parameters.
      values: of every step.
      rows: coefficients of the steps since the last report.
      counts: after every chunk (on the host, step): steps, directions used, and those unresolved.
      caught: evaluations that raised an exception in `catch`.
      error: the last of these exceptions.
    """

    def __init__(self, params: PyTree, state, keep: bool):
        value = zeroth_order_state(state).value
        floats = jax.tree.map(jnp.copy, floats_only(params)) if keep else None
        best = _Best(jnp.full_like(value, jnp.inf), floats) if keep else None
        self.taken: _Taken | None = _Taken(params, state, 0, best)
        self.values: list[float] = []
        self.rows: list[np.ndarray] = []
        self.counts = [(0, *_counts(state))]
        self.reported, self.caught, self.error = 0, 0, None

    @property
    def resolved_at_first(self) -> bool:
        """Whether most differences of the run's first half were resolved."""
        half = next(count for count in self.counts[1:] if 2 * count[0] >= self.taken.steps)
        used, unresolved = (
            now - before for now, before in zip(half[1:], self.counts[0][1:], strict=True)
        )
        return 2 * unresolved <= used

    def commit(self, params: PyTree, state, best, values: list[float], rows) -> None:
        self.values.extend(values)
        self.rows.extend(rows)
        self.counts.append((len(self.values), *_counts(state)))
        self.taken = _Taken(params, state, len(self.values), best)

    def report(self, callback) -> bool:
        """Calls back with the steps since the last report, if there are any."""
        params, state, steps, _ = self.taken
        new, self.reported = steps - self.reported, steps
        rows, self.rows = self.rows[:new], []
        if callback is None or not new:
            return False
        return callback(
            # A copy: the next chunk is donated what this one returned.
            Progress(
                step=steps,
                value=self.values[steps - 1],
                params=_copied(params),
                state=_copied(state),
                values=np.asarray(self.values[steps - new : steps]),
                coefficients=np.stack(rows),
            )
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


def _counts(state) -> tuple[int, int]:
    seen = zeroth_order_state(state).estimator_state
    return int(seen.used), int(seen.unresolved)


def _chunks(advance, run: _Run, limit, target, callback, bar) -> str | None:
    """Chunks of steps until the limit, the target or the callback; a message for the last two."""
    while (begun := run.taken.steps) < limit:
        advance(run, limit - begun)
        value = run.values[-1]
        if bar is not None:
            bar.set_postfix(value=f"{value:.6g}", refresh=False)
            bar.update(run.taken.steps - begun)
        stop = run.report(callback)
        if target is not None and value <= target:
            return "target reached"
        if stop:
            return "stopped by callback"
    return None


@marking_nan
def _copied(tree: PyTree) -> PyTree:
    return jax.tree.map(jnp.copy, tree)


def _device_loop(fun, tx, chunk, target):
    """Up to `chunk` steps in one compiled while loop."""
    program = _programs(fun)(tx.update)(attributes_of(fun))
    stop_at = -np.inf if target is None else float(target)

    def advance(run: _Run, remaining: int) -> None:
        (params, state, _, best), run.taken = run.taken, None  # donated
        with untraceable("zojax traces fun. For a black box that JAX cannot trace pass jit=False."):
            steps, params, state, best, values, c = program(
                chunk, params, state, best, jnp.int32(min(chunk, remaining)), stop_at
            )
        _require_host(values)  # fun may read what is traced
        values, c = np.asarray(values, np.float64)[: int(steps)], np.asarray(c)[: int(steps)]
        run.commit(params, state, best, values.tolist(), c)

    return advance


@kept_with_loss
def _programs(fun):
    """What is compiled for a function and an update lives as long as both do."""
    return kept_with(partial(_program, fun))


def _program(fun: Callable[[], Callable], update: Callable[[], Callable]) -> Callable:
    @lru_cache(maxsize=1)
    def of(attributes):
        """For an object that is called while its attributes are these."""

        def run(*arguments):
            return _steps(fun(), update(), *arguments)

        return jax.jit(run, static_argnums=0, donate_argnums=(1, 2, 3))

    return of


def _steps(fun: Callable, update: Callable, chunk: int, params, state, best, limit, stop_at):
    """Steps taken, the last parameters and state, the best, values and coefficients of the steps."""

    def more(carry):
        i, limit, value, *_ = carry
        return (i < limit) & ~((i > 0) & (value <= stop_at))

    def step(carry):
        i, limit, _, params, state, best, values, coefficients = carry
        updates, state = update(None, state, params, value_fn=fun)
        found = zeroth_order_state(state)
        best = None if best is None else best.or_better(found.value, params)
        params = apply_updates(params, updates)
        values = values.at[i].set(found.value)
        coefficients = coefficients.at[i].set(found.coefficients)
        return i + 1, limit, found.value, params, state, best, values, coefficients

    found = zeroth_order_state(state)
    value, c = jnp.zeros_like(found.value), found.coefficients
    records = jnp.zeros(chunk, value.dtype), jnp.zeros((chunk, *c.shape), c.dtype)
    start = (jnp.int32(0), limit, value, params, state, best, *records)
    i, _, _, params, state, best, *records = jax.lax.while_loop(more, step, start)
    return i, params, state, best, *records


def _host_loop(catch, fun, tx, chunk, target):
    """Up to `chunk` steps whose evaluations are calls of a Python function."""
    if not isinstance(tx, ZerothOrder):
        raise TypeError(
            "jit=False asks the estimator of tx for points, and tx has none: pass what "
            f"zojax.zeroth_order or a ready-made optimizer returns, got {type(tx).__name__}."
        )

    def evaluate(run: _Run, point) -> float:
        try:
            value = fun(point)
        except catch as error:
            run.caught, run.error = run.caught + 1, error
            return np.nan
        return host_scalar(value)

    def step(run: _Run) -> None:
        params, state, _, best = run.taken
        key = jax.random.fold_in(state.rng_key, state.count)
        points, _ = tx.estimator.ask(key, params, step=state.count)
        points = jax.tree.map(_to_host, points)
        evaluated = [
            evaluate(run, jax.tree.map(lambda x, e=e: x[e], points))
            for e in range(tx.estimator.evaluations)
        ]
        updates, state = tx.update(None, state, params, values=np.asarray(evaluated))
        if best is not None and state.value < best.value:
            best = _Best(state.value, floats_only(params))
        row = np.asarray(state.coefficients)
        run.commit(apply_updates(params, updates), state, best, [float(state.value)], [row])

    def advance(run: _Run, remaining: int) -> None:
        for _ in range(min(chunk, remaining)):
            step(run)
            if target is not None and run.values[-1] <= target:
                break

    return advance


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
