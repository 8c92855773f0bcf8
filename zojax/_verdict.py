"""Verdicts: the first problem of a run, with its number and a remedy, from the counts in its state."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from zojax._transform import ZerothOrder, ZerothOrderState
from zojax._trees import PyTree, floats_only


def verdict(state: Any) -> str:
    """The first problem of a run, with its number and a remedy; "" without one.

    The problems, in this order:

    - every evaluation was NaN or infinite;
    - the run diverged: its last value is not finite, or it rose from the first by more than twice the
      first and ten times the largest fall;
    - most directions were left out;
    - most differences were zero, or below the resolution of the values (`EstimatorState.unresolved`);
    - entries of gradients were clipped to the range of their dtype.

    The counts in `state.estimator_state` begin at `init`, or at a resumption. `MinimizeResult.message` has
    the verdict on one call.

    Args:
      state: of `zojax.zeroth_order`, or of an optax chain around one; outside `jit`.

    Returns:
      The verdict.

    Raises:
      TypeError: a state without `zeroth_order`, or a traced one.
      ValueError: a state of several runs.

    >>> import jax.numpy as jnp, zojax
    >>> tx, params, loss = zojax.mezo(1.0), jnp.ones(50), lambda x: jnp.sum(x**4)
    >>> state = tx.init(params)
    >>> for _ in range(4):
    ...     updates, state = tx.update(None, state, params, value_fn=loss)
    ...     params = zojax.apply_updates(params, updates)
    >>> zojax.verdict(state)
    'diverged: the value rose from 50 to ... (least 50): lower the learning rate'
    """
    return judged(facts(state))


_COUNTS = "skipped", "used", "flat", "unresolved", "clipped"  # of `EstimatorState`


class Facts(NamedTuple):
    """The counts and values that a verdict reads.

    Attributes:
      steps: steps taken, replayed ones included.
      directions: of these steps.
      skipped: directions left out.
      used, flat, unresolved, clipped: as in `EstimatorState`.
      first, least, last: values; `last` is NaN if the last step had none.
      late: whether the run made progress before its differences were below resolution.
    """

    steps: int
    directions: int
    skipped: int
    used: int
    flat: int
    unresolved: int
    clipped: int
    first: float
    least: float
    last: float
    late: bool

    def since(self, before: "Facts", history: list, late: bool) -> "Facts":
        """The facts of the steps after `before`, with these values."""
        names = "steps", "directions", *_COUNTS
        counts = {name: getattr(self, name) - getattr(before, name) for name in names}
        finite = [value for value in history if not np.isnan(value)] or [np.nan]
        values = {"first": finite[0], "least": min(finite), "last": history[-1]}
        return self._replace(**counts, **values, late=late)

    @property
    def is_unresolved(self) -> bool:
        """Whether most differences are zero or below the resolution of the values."""
        return 2 * self.unresolved > self.used


def facts(state: Any) -> Facts:
    found = zeroth_order_state(state)
    seen = found.estimator_state
    if any(isinstance(leaf, jax.core.Tracer) for leaf in (found.count, *seen)):
        raise TypeError(
            "verdict reads numbers: call it with the state that a jitted step returned."
        )
    if np.ndim(found.count):
        raise ValueError(
            f"verdict is of one run, but the state is of {np.shape(found.count)}: "
            "pick one, jax.tree.map(lambda x: x[0], state)."
        )
    steps, first, least = int(found.count), float(seen.first), float(seen.least)
    rounding = 1000 * float(jnp.finfo(seen.first.dtype).eps) * max(abs(first), abs(least))
    return Facts(
        steps=steps,
        directions=steps * found.coefficients.shape[0],
        **{name: int(getattr(seen, name)) for name in _COUNTS},
        first=first,
        least=least,
        last=float(found.value),
        late=first - least > rounding,
    )


def judged(of: Facts, remedy: str | None = None) -> str:
    """The verdict; `remedy` is for differences below resolution."""
    if failed := _failed(of):
        return failed
    if of.is_unresolved:
        return (
            f"{_unresolved(of)}: {_CONVERGED if of.late else remedy or f'raise mu, {_advice(of)}'}"
        )
    if of.clipped:
        return (
            f"{of.clipped} entries of gradients were clipped to the range of their dtype: "
            "pass inner_dtype=jnp.float32 to zeroth_order"
        )
    return ""


def is_stuck(of: Facts) -> bool:
    """Whether most differences are below resolution, from the beginning on."""
    return of.is_unresolved and not of.late and not _failed(of)


_CONVERGED = (
    "the values resolve no further progress; stop earlier, raise mu, or subtract a constant"
)


def _failed(of: Facts) -> str:
    """The verdict on evaluations that are not finite, and on rising values."""
    if of.directions and of.skipped >= of.directions:
        return (
            f"every evaluation was NaN or infinite ({of.skipped} directions in {of.steps} steps): "
            "evaluate the loss at the first parameters, then lower mu"
        )
    if not of.used:
        return ""
    if np.isnan(of.last):
        return (
            "diverged: the last step has no finite value "
            f"(first {of.first:.4g}, least {of.least:.4g}): lower the learning rate or mu"
        )
    if of.last - of.first > max(2 * abs(of.first), 10 * (of.first - of.least)):
        return (
            f"diverged: the value rose from {of.first:.4g} to {of.last:.4g} "
            f"(least {of.least:.4g}): lower the learning rate"
        )
    if 2 * of.skipped > of.directions:
        return (
            f"{_percent(of.skipped, of.directions)} of directions were left out, as an evaluation was "
            "NaN or infinite, or mu not positive: lower mu or the learning rate"
        )
    return ""


def _unresolved(of: Facts) -> str:
    if 2 * of.flat > of.used:
        return f"{_percent(of.flat, of.used)} of differences are zero"
    share = _percent(of.unresolved, of.used)
    return f"{share} of differences are below the resolution of the values"


def _advice(of: Facts) -> str:
    if of.first == of.least == of.last:  # a constant, as far as the counts tell
        return "subtract a constant from the loss, or check that it depends on the parameters"
    return "or subtract a constant from the loss"


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.0f} %"


def remedy(of: Facts, tx: ZerothOrder, params: PyTree, state: ZerothOrderState) -> str:
    """The remedy for differences below resolution, from the last step's points."""
    step = jnp.maximum(state.count - 1, 0)
    key = jax.random.fold_in(state.rng_key, step)
    before = state.estimator_state
    mu = tx.estimator.asked(key, params, step=step, state=before).mu
    try:
        still, lost, moved = map(int, jax.jit(partial(_moves, tx))(key, params, mu, before))
    except jax.errors.JaxRuntimeError:  # out of memory: a remark must not lose the run's result
        still, lost, moved = 0, 0, 1
    if not moved:
        return "the last direction moves no parameter: take a higher density, or another direction"
    dtypes = ", ".join(sorted({str(x.dtype) for x in jax.tree.leaves(floats_only(params))}))
    if 2 * still > moved:
        return f"x + mu z equals x in {dtypes}: raise mu from {mu:.2g}"
    if 2 * lost > moved:
        return f"x + mu z equals mu z in {dtypes}: lower mu from {mu:.2g}"
    dtype = state.estimator_state.first.dtype
    return (
        f"values near {of.last:.4g} are too close in {dtype}: raise mu from {mu:.2g}, {_advice(of)}"
    )


def _moves(tx: ZerothOrder, key, params: PyTree, mu, state) -> jax.Array:
    """Three counts of entries: x + mu z equals x; it equals mu z, and x is not 0; z is not 0."""
    first = jnp.zeros(tx.estimator.num_directions).at[0].set(1)
    z = tx.estimator.combine(key, params, first, jnp.float32, state=state)

    def of_leaf(x, z):
        step = mu.astype(z.dtype) * z
        point, moves = (x.astype(z.dtype) + step).astype(x.dtype), z != 0
        still, lost = point == x, (point == step.astype(x.dtype)) & (x != 0)
        return jnp.stack(
            [jnp.sum(moves & which, dtype=jnp.float32) for which in (still, lost, moves)]
        )

    counts = jax.tree.map(of_leaf, floats_only(params), floats_only(z))
    return sum(jax.tree.leaves(counts), start=jnp.zeros(3, jnp.float32))


def zeroth_order_state(state) -> ZerothOrderState:
    """The one state of a `zeroth_order` in the state of a transformation."""

    def is_leaf(x):
        return isinstance(x, ZerothOrderState)

    found = [x for x in jax.tree.leaves(state, is_leaf=is_leaf) if is_leaf(x)]
    if len(found) != 1:
        raise TypeError(
            f"tx must hold exactly one zojax.zeroth_order, found {len(found)}; "
            "wrap an optax optimizer: zojax.zeroth_order(optax.adam(1e-3))."
        )
    return found[0]
