"""RACOS: classification-based search in rounds (Yu, Qian & Hu, AAAI 2016)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from zojax._types import require_count
from zojax.search import _box
from zojax.search._algorithm import Algorithm, Random, float_dtype, make_random, reused, sequential
from zojax.search._arrays import insert_sorted
from zojax.search.spaces import Space
from zojax.search.sracos import propose_from, require_exploration


class RacosState(NamedTuple):
    """Two sets of T points sorted by value: that of this round, and the best of it and what came since."""

    random: Random
    count: jax.Array
    left: jax.Array  # evaluations until the round ends
    points: jax.Array  # (T, d)
    values: jax.Array
    next_points: jax.Array
    next_values: jax.Array


@reused
def racos(
    *, exploration: float = 0.01, num_positives: int | None = None, parity: bool = False
) -> Algorithm:
    """RACOS: all samples of a round are drawn from the same positives and negatives.

    T uniform points, sorted; the best P are positive. A round draws N = T - P samples, each from a random
    box around a random positive that holds no negative (with probability `exploration` uniformly); then
    the best T of old and new points are kept. `sracos` learns after every evaluation instead, and
    usually needs fewer of them.

    Args:
      exploration: the share of uniform samples. Runs side by side explore at the same steps.
      num_positives: P, from ZOOpt's table by default (T and the redrawn coordinates are, too).
      parity: learn the box as ZOOpt does, by cuts in random coordinates until no bad point is left. By
        default every bad point cuts the coordinates that are redrawn (those with an order, where all have
        one), which is faster and finds better points.

    Raises:
      ValueError: an exploration outside [0, 1].

    >>> from zojax import search
    >>> found = search.minimize(lambda x: abs(x - 1).sum(), search.uniform(-4, 4, (5,)),
    ...                         search.racos(), budget=2000, key=0)
    >>> bool(found.best_value < 1)
    True
    """
    require_exploration(exploration)
    if num_positives is not None:
        num_positives = require_count("num_positives", num_positives)

    def sizes(space, state):
        """(P, N); neither can be read off the arrays alone."""
        total = len(state.values)
        positives = num_positives or (1 if total < 12 else 2)
        return positives, total - positives

    def init(key, space: Space, budget: int) -> RacosState:
        shape = _box.default_shape(space, budget)
        positives = num_positives or shape.positives
        total = max(shape.positives + shape.negatives, positives + 2)
        points = space.sample(key, total).astype(float_dtype())
        values = jnp.full(total, jnp.inf, float_dtype())
        # Two arrays, not one twice: a state that is donated must not alias itself.
        later = jnp.copy(points), jnp.copy(values)
        return RacosState(make_random(key), jnp.int32(0), jnp.int32(total), points, values, *later)

    def ask(space: Space, state: RacosState):
        positives, _ = sizes(space, state)
        total = len(state.values)
        x, random = propose_from(
            space,
            state.random,
            state.points,
            jnp.arange(positives, dtype=jnp.int32),
            uniformly=state.count < total,
            count=state.count,
            exploration=exploration,
            parity=parity,
        )
        return x[None], state._replace(random=random)

    def tell(space, state: RacosState, x, value) -> RacosState:
        _, negatives = sizes(space, state)
        later = insert_sorted(state.next_points, state.next_values, x, value)[:2]
        ends = state.left == 1
        points, values = (
            jnp.where(ends, new, old)
            for new, old in zip(later, (state.points, state.values), strict=True)
        )
        left = jnp.where(ends, negatives, state.left - 1)
        return RacosState(state.random, state.count + 1, left, points, values, *later)

    def inject(space, state, x, value):
        """Into both sets, at any time."""
        del space
        now = insert_sorted(state.points, state.values, x, value)[:2]
        later = insert_sorted(state.next_points, state.next_values, x, value)[:2]
        return RacosState(state.random, state.count, state.left, *now, *later)

    def best(state):
        return state.next_points[0], state.next_values[0]

    return Algorithm(init, ask, sequential(tell), best, inject)
