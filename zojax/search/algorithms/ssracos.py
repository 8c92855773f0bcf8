"""SSRACOS: SRACOS with value suppression, for noisy functions."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from zojax._checks import require_count, require_flag
from zojax._numerics import float_dtype
from zojax.search.algorithms._algorithm import Algorithm, reused, sequential, where
from zojax.search.algorithms._arrays import entry
from zojax.search.algorithms._sequential import SracosState, propose, start, tell_point
from zojax.search.algorithms._settings import require_exploration, require_replacement
from zojax.search.spaces import Space


class Suspicion(NamedTuple):
    """The settings of value suppression, see `ssracos`."""

    times: int
    idle: int
    blend: float | jax.Array


class SsracosState(NamedTuple):
    """Flags are kept for the T places, although only positives are evaluated again."""

    inner: SracosState
    idle: jax.Array  # evaluations since one entered the positives
    left: jax.Array  # evaluations until the budget's end is kept for the positives
    suppressed: jax.Array  # bool (T,), evaluated again already
    again: jax.Array  # the place that is evaluated again now, or -1
    sum: jax.Array  # of its new values
    number: jax.Array  # how many these are
    x: jax.Array  # (d,), the least mean so far: its point
    mean: jax.Array


@reused
def ssracos(
    *,
    times: int = 100,
    idle: int = 500,
    blend: float = 0.5,
    num_positives: int = 5,
    replacement: str = "random",
    exploration: float = 0.01,
    parity: bool = True,
) -> Algorithm:
    """SRACOS with value suppression: points that owe their rank to luck are found out.

    On a noisy function the positives fill with points that were lucky once, and nothing enters any more.
    After `idle` evaluations in a row that did not enter them, each positive x that was not yet evaluated
    again is, r = `times` times with mean m; its value becomes (1 - a) v(x) + a m with a = `blend`,
    and the positives are sorted anew. So they are at the end of the budget, which counts every evaluation:
    the last P r of them, a quarter at most, are kept for it. The recommendation is the point with the
    least mean of all that were evaluated again (until there is one, the best positive).

    The defaults are the paper's. With some 10^4 evaluations, fewer of them sooner (times=20, idle=50) find
    better points: `python -m benchmarks.search --only quality`.

    Args:
      times: r, evaluations of a positive that is suspected.
      idle: evaluations in a row, without an entry, that raise suspicion.
      blend: a.
      num_positives: P.
      exploration: as in `sracos`.
      replacement, parity: as in `sracos`. The wider boxes of ZOOpt, and negatives that were lucky but are
        forgotten, are misled less by noise.

    Returns:
      An `Algorithm`.

    Raises:
      ValueError: a count below 1; a blend or an exploration outside [0, 1]; an unknown replacement.

    References:
      Wang, Qian and Yu, `Noisy derivative-free optimization with value suppression
      <https://doi.org/10.1609/aaai.v32i1.11534>`_, AAAI 2018.

    >>> import jax
    >>> from zojax import search
    >>> def noisy(x, key):
    ...     return abs(x - 1).sum() + 0.3 * jax.random.normal(key)
    >>> found = search.minimize(noisy, search.uniform(-4, 4, (3,)), search.ssracos(),
    ...                         budget=4000, key=0, with_key=True)
    >>> bool(abs(found.best - 1).sum() < 1)
    True
    """
    times, idle = require_count("times", times), require_count("idle", idle)
    num_positives = require_count("num_positives", num_positives)
    require_replacement(replacement)
    require_exploration(exploration)
    require_flag("parity", parity)
    require_exploration(blend, "blend")

    settings = Suspicion(times, idle, blend)

    def init(key, space: Space, budget: int) -> SsracosState:
        left = budget - min(num_positives * times, budget // 4)
        return _init(start(num_positives, key, space, budget), left)

    def ask(space: Space, state: SsracosState):
        x, inner = propose(space, state.inner, exploration, parity)
        old = lax.dynamic_index_in_dim(
            state.inner.points, jnp.maximum(state.again, 0), 0, keepdims=False
        )
        return jnp.where(state.again >= 0, old, x)[None], state._replace(inner=inner)

    def inject(space, state, x, value):
        inner = tell_point(replacement, space, state.inner, x, value)
        return state._replace(inner=inner)

    return Algorithm(
        init=init,
        ask=ask,
        tell=sequential(partial(_tell, settings, replacement)),
        best=_best,
        inject=inject,
        repeats_points=True,
    )


def _init(inner: SracosState, left: int) -> SsracosState:
    return SsracosState(
        inner=inner,
        idle=jnp.int32(0),
        left=jnp.int32(left),
        suppressed=jnp.zeros(len(inner.values), bool),
        again=jnp.int32(-1),
        sum=jnp.zeros((), float_dtype()),
        number=jnp.int32(0),
        x=jnp.copy(inner.points[0]),
        mean=jnp.asarray(jnp.inf, float_dtype()),
    )


def _tell(settings: Suspicion, replacement, space, state: SsracosState, x, value) -> SsracosState:
    """One of two updates; both are computed, for there may be many runs."""
    new = _tell_new(replacement, space, state, x, value)
    after = where(state.again < 0, new, _tell_again(settings, state, x, value))
    return _choose_suspect(settings, after._replace(left=after.left - 1))


def _tell_new(replacement, space, state: SsracosState, x, value) -> SsracosState:
    before = state.inner
    inner = tell_point(replacement, space, before, x, value)
    entered = value < entry(before.values, before.positives[-1])
    # Whatever is new in a place was not evaluated again.
    changed = jnp.any(before.points != inner.points, axis=1) | (before.values != inner.values)
    return state._replace(
        inner=inner,
        idle=jnp.where(entered, 0, state.idle + 1),
        suppressed=state.suppressed & ~changed,
    )


def _tell_again(settings: Suspicion, state: SsracosState, x, value) -> SsracosState:
    total, number = state.sum + value, state.number + 1
    done = number >= settings.times
    mean = total / number
    here = done & (jnp.arange(len(state.suppressed)) == state.again)
    values = state.inner.values
    values = jnp.where(here, (1 - settings.blend) * values + settings.blend * mean, values)
    better = done & (mean < state.mean)
    return state._replace(
        inner=_sort(state.inner._replace(values=values)),
        suppressed=state.suppressed | here,
        again=jnp.where(done, -1, state.again),
        sum=jnp.where(done, 0.0, total),
        number=jnp.where(done, 0, number),
        x=jnp.where(better, x, state.x),
        mean=jnp.where(better, mean, state.mean),
    )


def _choose_suspect(settings: Suspicion, state: SsracosState) -> SsracosState:
    """Who is evaluated next: while somebody is suspected, positives that have not been."""
    suspects = [
        jnp.isfinite(entry(state.inner.values, place))
        & ~entry(state.suppressed, place).astype(bool)
        for place in state.inner.positives
    ]
    some = jnp.any(jnp.stack(suspects))
    first = state.inner.positives[jnp.argmax(jnp.stack(suspects))]
    begins = (state.again < 0) & ((state.idle >= settings.idle) | (state.left <= 0))
    return state._replace(
        again=jnp.where(begins & some, first, state.again),
        idle=jnp.where(begins & ~some, 0, state.idle),
    )


def _best(state: SsracosState):
    place = state.inner.positives[0]
    known = jnp.isfinite(state.mean)
    x = jnp.where(known, state.x, state.inner.points[place])
    return x, jnp.where(known, state.mean, state.inner.values[place])


def _sort(state: SracosState) -> SracosState:
    """Positives in the order of their values."""
    values = jnp.stack([entry(state.values, place) for place in state.positives])
    return state._replace(positives=state.positives[jnp.argsort(values)])
