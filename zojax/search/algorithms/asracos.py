"""ASRACOS: SRACOS with several evaluations in flight."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from zojax._checks import require_count
from zojax._numerics import float_dtype
from zojax.search.algorithms._algorithm import Algorithm
from zojax.search.algorithms._arrays import put_row
from zojax.search.algorithms._sequential import SracosState, best, propose, start, tell_inner
from zojax.search.algorithms._toolkit import require_racos, reused
from zojax.search.spaces import Space


class AsracosState(NamedTuple):
    """The state of SRACOS, and the points under evaluation."""

    inner: SracosState
    pending: jax.Array  # (in_flight, d), nan in free places
    asked: jax.Array  # int32 (in_flight,), when; -1 in free places
    clock: jax.Array


@reused
def asracos(
    *,
    in_flight: int = 4,
    replacement: str = "worst",
    exploration: float = 0.01,
    num_positives: int | None = None,
    parity: bool = False,
) -> Algorithm:
    """Asynchronous SRACOS: up to `in_flight` points are evaluated at once, and told in any order.

        minimize(fun, space, asracos(in_flight=8), executor=ThreadPoolExecutor(8), budget=..., key=...)

    Each value updates the positives and negatives on arrival, and makes room for one proposal. A proposal
    differs from the points under evaluation, if one of 100 draws does. A compiled search asks for one point
    at a time, as `sracos` does.

    Args:
      in_flight: how many asks may be open. One more ask replaces the oldest.
      replacement, exploration, num_positives, parity: as in `sracos`.

    Raises:
      ValueError: an unknown replacement; an exploration outside [0, 1]; in_flight or num_positives below 1.

    References:
      Liu, Hu, Qian and Yu, `Asynchronous classification-based optimization
      <https://doi.org/10.1145/3356464.3357709>`_, DAI 2019.

    >>> from concurrent.futures import ThreadPoolExecutor
    >>> from zojax import search
    >>> with ThreadPoolExecutor(4) as pool:
    ...     found = search.minimize(lambda x: float(abs(x - 1).sum()), search.uniform(-4, 4, (5,)),
    ...                             search.asracos(in_flight=4), budget=500, key=0, jit=False,
    ...                             executor=pool)
    >>> bool(found.best_value < 2)
    True
    """
    in_flight = require_count("in_flight", in_flight)
    num_positives = require_racos(exploration, parity, num_positives, replacement)
    init, ask = partial(_init, in_flight, num_positives), partial(_ask, exploration, parity)
    learn = partial(tell_inner, replacement)
    tell = partial(_tell, learn)
    return Algorithm(init, ask, tell, lambda state: best(state.inner), learn, in_flight=in_flight)


def _init(in_flight: int, num_positives, key, space: Space, budget: int) -> AsracosState:
    return AsracosState(
        inner=start(num_positives, key, space, budget),
        pending=jnp.full((in_flight, space.dimension), jnp.nan, float_dtype()),
        asked=jnp.full(in_flight, -1, jnp.int32),
        clock=jnp.int32(0),
    )


def _ask(exploration, parity: bool, space: Space, state: AsracosState):
    # nan differs from everything, so free places exclude no point.
    x, inner = propose(space, state.inner, exploration, parity, taken=state.pending)
    place = jnp.argmin(state.asked).astype(jnp.int32)  # a free place, or the oldest
    return x[None], AsracosState(
        inner=inner,
        pending=put_row(state.pending, place, x, jnp.bool_(True)),
        asked=jnp.where(jnp.arange(len(state.asked)) == place, state.clock, state.asked),
        clock=state.clock + 1,
    )


def _tell(learn, space: Space, state: AsracosState, x, values) -> AsracosState:
    same = jnp.all(state.pending == x[0], axis=1)
    # Among equal points under evaluation, one is done.
    done = same & (jnp.cumsum(same) == 1)
    return learn(space, state, x[0], values[0])._replace(
        pending=jnp.where(done[:, None], jnp.nan, state.pending),
        asked=jnp.where(done, -1, state.asked),
    )
