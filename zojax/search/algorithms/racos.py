"""RACOS: classification-based search in rounds."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from zojax._checks import require_count, require_flag
from zojax._numerics import float_dtype
from zojax.search._random import Random, make_random
from zojax.search.algorithms import _box
from zojax.search.algorithms._algorithm import Algorithm, reused, sequential
from zojax.search.algorithms._arrays import insert_sorted
from zojax.search.algorithms._proposals import propose_from
from zojax.search.algorithms._settings import require_exploration
from zojax.search.spaces import Space


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
    box around a random positive that holds no negative (with probability `exploration` uniformly, and so
    all of them while no value is finite); then the best T of old and new points are kept. `sracos` learns
    after every evaluation instead, and usually needs fewer of them.

    Args:
      exploration: the share of uniform samples. Runs side by side explore at the same steps.
      num_positives: P, from ZOOpt's table by default (T and the redrawn coordinates are, too).
      parity: learn the box as ZOOpt does, by cuts in random coordinates until no bad point is left, and
        after T points even where no value is finite. By default every bad point cuts the coordinates that
        are redrawn (those with an order, where all have one), which is faster and finds better points.

    Returns:
      An `Algorithm`.

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
    require_exploration(exploration)
    require_flag("parity", parity)
    if num_positives is not None:
        num_positives = require_count("num_positives", num_positives)

    def sizes(state):
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
        return RacosState(
            random=make_random(key),
            count=jnp.int32(0),
            left=jnp.int32(total),
            points=points,
            values=values,
            # Not the same arrays twice: a state that is donated must not alias itself.
            next_points=jnp.copy(points),
            next_values=jnp.copy(values),
        )

    def ask(space: Space, state: RacosState):
        positives, _ = sizes(state)
        x, random = propose_from(
            space,
            state.random,
            state.points,
            state.values,
            jnp.arange(positives, dtype=jnp.int32),
            count=state.count,
            exploration=exploration,
            parity=parity,
        )
        return x[None], state._replace(random=random)

    def tell(space, state: RacosState, x, value) -> RacosState:
        _, negatives = sizes(state)
        points, values, _ = insert_sorted(state.next_points, state.next_values, x, value)
        ends = state.left == 1
        return state._replace(
            count=state.count + 1,
            left=jnp.where(ends, negatives, state.left - 1),
            points=jnp.where(ends, points, state.points),
            values=jnp.where(ends, values, state.values),
            next_points=points,
            next_values=values,
        )

    def inject(space, state, x, value):
        """Into both sets, at any time."""
        del space
        points, values, _ = insert_sorted(state.points, state.values, x, value)
        later, later_values, _ = insert_sorted(state.next_points, state.next_values, x, value)
        return state._replace(
            points=points, values=values, next_points=later, next_values=later_values
        )

    def best(state):
        return state.next_points[0], state.next_values[0]

    return Algorithm(init, ask, sequential(tell), best, inject)
