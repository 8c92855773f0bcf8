"""SSRACOS: SRACOS with value suppression, for noisy functions."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from zojax._checks import require_count
from zojax._numerics import float_dtype
from zojax.search.algorithms._algorithm import Algorithm
from zojax.search.algorithms._arrays import entry
from zojax.search.algorithms._sequential import SracosState, propose, start, tell_inner
from zojax.search.algorithms._toolkit import (
    require_racos,
    require_share,
    reused,
    select,
    sequential,
)
from zojax.search.spaces import Space


class Suspicion(NamedTuple):
    """The settings of value suppression, see `ssracos`."""

    times: int
    idle: int
    blend: float | jax.Array
    replacement: str


class SsracosState(NamedTuple):
    """The state of SRACOS and of value suppression. Only positives are evaluated again."""

    inner: SracosState
    idle: jax.Array  # evaluations since a point entered the positives
    left: jax.Array  # evaluations until the end of the budget is kept for the positives
    suppressed: jax.Array  # bool (T,), which places were evaluated again
    again: jax.Array  # the place that is evaluated again now, or -1
    sum: jax.Array  # of its new values
    number: jax.Array  # of its new values
    x: jax.Array  # (d,), the point with the least mean so far
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
    """SRACOS with value suppression: it evaluates lucky points again.

    On a noisy function, points that were lucky once fill the positives, and no other point enters. After
    `idle` evaluations without an entry, each positive point x is suspected once. It is evaluated
    r = `times` times, with mean m. Its value becomes (1 - a) v(x) + a m with a = `blend`, and the positives
    are sorted again. The last P r evaluations, at most a quarter of the budget, are kept for this. The
    budget counts every evaluation. The recommendation is the point with the least mean, or the best
    positive point while there is no mean.

    The defaults are the paper's. With about 10^4 evaluations, times=20 and idle=50 find better points:
    `python -m benchmarks search`.

    Args:
      times: r, evaluations of a suspected point.
      idle: evaluations in a row, without an entry, that raise suspicion.
      blend: a.
      num_positives: P.
      exploration: as in `sracos`.
      replacement, parity: as in `sracos`. Noise misleads ZOOpt's wide boxes, and negatives that are
        forgotten at random, less.

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
    require_racos(exploration, parity, num_positives, replacement)
    require_share("blend", blend)
    settings = Suspicion(times, idle, blend, replacement)
    init, ask = partial(_init, num_positives, times), partial(_ask, exploration, parity)
    tell, inject = sequential(partial(_tell, settings)), partial(tell_inner, replacement)
    return Algorithm(init, ask, tell, _best, inject, repeats_points=True)


def _init(num_positives: int, times: int, key, space: Space, budget: int) -> SsracosState:
    inner = start(num_positives, key, space, budget)
    return SsracosState(
        inner=inner,
        idle=jnp.int32(0),
        left=jnp.int32(budget - min(num_positives * times, budget // 4)),
        suppressed=jnp.zeros(len(inner.values), bool),
        again=jnp.int32(-1),
        sum=jnp.zeros((), float_dtype()),
        number=jnp.int32(0),
        x=jnp.copy(inner.points[0]),
        mean=jnp.asarray(jnp.inf, float_dtype()),
    )


def _ask(exploration, parity: bool, space: Space, state: SsracosState):
    x, inner = propose(space, state.inner, exploration, parity)
    place = jnp.maximum(state.again, 0)
    old = lax.dynamic_index_in_dim(state.inner.points, place, 0, keepdims=False)
    return jnp.where(state.again >= 0, old, x)[None], state._replace(inner=inner)


def _tell(settings: Suspicion, space: Space, state: SsracosState, x, value) -> SsracosState:
    """One of two updates. Both are computed, as `vmap` over runs would do anyway."""
    new = _tell_new(settings, space, state, x, value)
    after = select(state.again < 0, new, _tell_again(settings, state, x, value))
    return _choose_suspect(settings, after._replace(left=after.left - 1))


def _tell_new(settings: Suspicion, space: Space, state: SsracosState, x, value) -> SsracosState:
    before, state = state.inner, tell_inner(settings.replacement, space, state, x, value)
    entered = value < entry(before.values, before.positives[-1])
    # A new point was not evaluated again yet.
    moved = jnp.any(before.points != state.inner.points, axis=1)
    changed = moved | (before.values != state.inner.values)
    idle = jnp.where(entered, 0, state.idle + 1)
    return state._replace(idle=idle, suppressed=state.suppressed & ~changed)


def _tell_again(settings: Suspicion, state: SsracosState, x, value) -> SsracosState:
    total, number = state.sum + value, state.number + 1
    done = number >= settings.times
    mean = total / number
    here = done & (jnp.arange(len(state.suppressed)) == state.again)
    values = state.inner.values
    values = jnp.where(here, (1 - settings.blend) * values + settings.blend * mean, values)
    better = done & (mean < state.mean)
    positives = state.inner.positives
    order = jnp.argsort(jnp.stack([entry(values, place) for place in positives]))
    return state._replace(
        inner=state.inner._replace(values=values, positives=positives[order]),
        suppressed=state.suppressed | here,
        again=jnp.where(done, -1, state.again),
        sum=jnp.where(done, 0.0, total),
        number=jnp.where(done, 0, number),
        x=jnp.where(better, x, state.x),
        mean=jnp.where(better, mean, state.mean),
    )


def _choose_suspect(settings: Suspicion, state: SsracosState) -> SsracosState:
    """The place that is evaluated next: in a time of suspicion, a positive not evaluated again yet."""
    suspects = [
        jnp.isfinite(entry(state.inner.values, place))
        & ~entry(state.suppressed, place).astype(bool)
        for place in state.inner.positives
    ]
    some = jnp.any(jnp.stack(suspects))
    first = state.inner.positives[jnp.argmax(jnp.stack(suspects))]
    begins = (state.again < 0) & ((state.idle >= settings.idle) | (state.left <= 0))
    again = jnp.where(begins & some, first, state.again)
    return state._replace(again=again, idle=jnp.where(begins & ~some, 0, state.idle))


def _best(state: SsracosState):
    place = state.inner.positives[0]
    known = jnp.isfinite(state.mean)
    x = jnp.where(known, state.x, state.inner.points[place])
    return x, jnp.where(known, state.mean, state.inner.values[place])
