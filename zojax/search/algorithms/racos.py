"""RACOS: classification-based search in rounds."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from zojax._numerics import float_dtype
from zojax.search._random import Random, make_random
from zojax.search.algorithms._algorithm import Algorithm
from zojax.search.algorithms._arrays import insert_sorted
from zojax.search.algorithms._proposals import propose_from
from zojax.search.algorithms._sizes import positives_of, sizes_for
from zojax.search.algorithms._toolkit import require_racos, reused, sequential
from zojax.search.spaces import Space


class RacosState(NamedTuple):
    """Two sets of T points sorted by value: the round's, and the best of these and of its samples."""

    random: Random
    told: jax.Array  # number of evaluations
    left: jax.Array  # evaluations until the round ends
    points: jax.Array  # (T, d)
    values: jax.Array
    next_points: jax.Array
    next_values: jax.Array


@reused
def racos(
    *, exploration: float = 0.01, num_positives: int | None = None, parity: bool = False
) -> Algorithm:
    """RACOS: all samples of a round come from the same positives and negatives.

    It begins with T uniform points. The best P points are positive. Each round draws N = T - P samples,
    each from a random box around a random positive that holds no negative point, or uniformly with
    probability `exploration`. It then keeps the best T of old and new points. Samples stay uniform until a
    value is finite. `sracos` learns after every evaluation instead, and usually needs fewer evaluations.

    Args:
      exploration: the share of uniform samples. Runs side by side explore at the same steps.
      num_positives: P. By default, P, T and the number of redrawn coordinates follow ZOOpt's table.
      parity: learn the box as ZOOpt does, see `sracos`.

    Raises:
      ValueError: an exploration outside [0, 1]; num_positives below 1.

    References:
      Yu, Qian and Hu, `Derivative-free optimization via classification
      <https://doi.org/10.1609/aaai.v30i1.10289>`_, AAAI 2016.

    >>> from zojax import search
    >>> found = search.minimize(lambda x: abs(x - 1).sum(), search.uniform(-4, 4, (5,)),
    ...                         search.racos(), budget=2000, key=0)
    >>> bool(found.best_value < 1)
    True
    """
    num_positives = require_racos(exploration, parity, num_positives)
    init, ask = partial(_init, num_positives), partial(_ask, num_positives, exploration, parity)
    return Algorithm(init, ask, sequential(partial(_tell, num_positives)), _best, _inject)


def _init(num_positives: int | None, key, space: Space, budget: int) -> RacosState:
    total, _ = sizes_for(budget, num_positives)
    points = space.sample(key, total).astype(float_dtype())
    values = jnp.full(total, jnp.inf, float_dtype())
    return RacosState(
        random=make_random(key),
        told=jnp.int32(0),
        left=jnp.int32(total),
        points=points,
        values=values,
        # Copies: a donated state must not hold one array twice.
        next_points=jnp.copy(points),
        next_values=jnp.copy(values),
    )


def _ask(num_positives, exploration, parity: bool, space: Space, state: RacosState):
    positives = num_positives or positives_of(len(state.values))
    places = jnp.arange(positives, dtype=jnp.int32)
    x, state = propose_from(space, state, places, exploration, parity)
    return x[None], state


def _tell(num_positives, space: Space, state: RacosState, x, value) -> RacosState:
    del space
    total = len(state.values)
    points, values = insert_sorted(state.next_points, state.next_values, x, value)
    ends = state.left == 1
    round_length = total - (num_positives or positives_of(total))
    return state._replace(
        told=state.told + 1,
        left=jnp.where(ends, round_length, state.left - 1),
        points=jnp.where(ends, points, state.points),
        values=jnp.where(ends, values, state.values),
        next_points=points,
        next_values=values,
    )


def _inject(space: Space, state: RacosState, x, value) -> RacosState:
    """Enters both sets, at any time."""
    del space
    points, values = insert_sorted(state.points, state.values, x, value)
    later, later_values = insert_sorted(state.next_points, state.next_values, x, value)
    return state._replace(points=points, values=values, next_points=later, next_values=later_values)


def _best(state: RacosState):
    return state.next_points[0], state.next_values[0]
