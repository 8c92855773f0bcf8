"""Policies from returns alone: episodes side by side, observation statistics, and generations.

A generation asks an optimizer for a population of policies, plays the same episodes with each, and tells
the optimizer their mean returns. Everything is pure, so one `scan` compiles many generations.

    carry = Carry(params, tx.init(params), no_statistics(size))
    generation = make_generation(partial(play, environment, act, episodes=4), tx)
    carry, (returns, steps) = jax.lax.scan(generation, carry, jax.random.split(key, 100))

Policies see normalised observations, as in Salimans et al., https://arxiv.org/abs/1703.03864, and Mania et
al., https://arxiv.org/abs/1803.07055.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from zojax._transform import ZerothOrder, ZerothOrderState, apply_updates

__all__ = [
    "Carry",
    "Environment",
    "Episodes",
    "Statistics",
    "make_generation",
    "merge",
    "no_statistics",
    "normalise",
    "play",
    "watch",
]

Act = Callable[[Any, jax.Array], jax.Array]


class Statistics(NamedTuple):
    """Sums over observations.

    Attributes:
      weight: `()`, their number.
      total: `(size,)`, their sum.
      squares: `(size,)`, the sum of their squares.
    """

    weight: jax.Array
    total: jax.Array
    squares: jax.Array


class Environment(NamedTuple):
    """Many episodes of one environment, side by side.

    Attributes:
      begin: `(key, episodes) -> (observations, states)`, observations `(episodes, size)`.
      step: `(key, states, actions) -> (observations, states, rewards, ended)`, rewards and ended
        `(episodes,)`.
    """

    begin: Callable[[jax.Array, int], tuple[jax.Array, Any]]
    step: Callable[[jax.Array, Any, jax.Array], tuple[jax.Array, Any, jax.Array, jax.Array]]


class Episodes(NamedTuple):
    """Episodes of one policy.

    Attributes:
      returns: `(episodes,)`, sums of rewards.
      lengths: `(episodes,)` int32, steps.
      statistics: of all observations met.
    """

    returns: jax.Array
    lengths: jax.Array
    statistics: Statistics


class Carry(NamedTuple):
    """The state of training between two generations.

    Attributes:
      params: of the policy.
      state: of the optimizer.
      statistics: of the observations so far.
    """

    params: Any
    state: ZerothOrderState
    statistics: Statistics


def no_statistics(size: int) -> Statistics:
    """Statistics before any observation: mean 0 and spread 1, with the weight of 1/100 observation.

    >>> normalise(no_statistics(2), jnp.array([3.0, -1.0])).tolist()
    [3.0, -1.0]
    """
    return Statistics(jnp.float32(1e-2), jnp.zeros(size), jnp.full(size, 1e-2))


def merge(a: Statistics, b: Statistics) -> Statistics:
    """The statistics of both sets of observations.

    >>> merge(no_statistics(1), Statistics(jnp.array(2.0), jnp.ones(1), jnp.ones(1))).total.tolist()
    [1.0]
    """
    return jax.tree.map(jnp.add, a, b)


def normalise(statistics: Statistics, observations: jax.Array, limit: float = 5.0) -> jax.Array:
    """Observations minus their mean, over their standard deviation (at least 0.01), clipped.

    Args:
      statistics: of earlier observations.
      observations: `(..., size)`.
      limit: the largest magnitude of a result.

    Returns:
      `(..., size)`.
    """
    mean = statistics.total / statistics.weight
    spread = jnp.sqrt(jnp.maximum(statistics.squares / statistics.weight - mean**2, 1e-4))
    return jnp.clip((observations - mean) / spread, -limit, limit)


def play(
    environment: Environment,
    act: Act,
    params: Any,
    statistics: Statistics,
    key: jax.Array,
    episodes: int,
) -> Episodes:
    """Plays episodes side by side until the last of them ends.

    Args:
      act: the policy, `(params, observations) -> actions` for normalised observations.
      params: of the policy.
      statistics: normalise the observations.
      episodes: their number, a Python int.

    A walk that pays 1 a step and ends at 3:

    >>> def step(key, at, actions):
    ...     at = at + actions
    ...     return at[:, None], at, jnp.ones_like(at), at >= 3
    >>> line = Environment(lambda key, n: (jnp.zeros((n, 1)), jnp.zeros(n)), step)
    >>> def act(speed, observations):
    ...     return jnp.full(len(observations), speed)
    >>> found = play(line, act, 0.5, no_statistics(1), jax.random.key(0), episodes=2)
    >>> found.returns.tolist(), found.lengths.tolist(), float(found.statistics.weight)
    ([6.0, 6.0], [6, 6], 12.0)
    """
    first, later = jax.random.split(key)
    observations, states = environment.begin(first, episodes)

    def advance(carry):
        alive, time, observations, states, found = carry
        weight = alive.astype(jnp.float32)
        met = Statistics(weight.sum(), weight @ observations, weight @ jnp.square(observations))
        actions = act(params, normalise(statistics, observations))
        own = jax.random.fold_in(later, time)
        observations, states, rewards, ended = environment.step(own, states, actions)
        found = Episodes(
            found.returns + weight * rewards, found.lengths + alive, merge(found.statistics, met)
        )
        return alive & ~ended, time + 1, observations, states, found

    size = observations.shape[1]
    nothing = Statistics(jnp.float32(0), jnp.zeros(size), jnp.zeros(size))
    found = Episodes(jnp.zeros(episodes), jnp.zeros(episodes, jnp.int32), nothing)
    start = (jnp.ones(episodes, bool), jnp.int32(0), observations, states, found)
    return jax.lax.while_loop(lambda carry: jnp.any(carry[0]), advance, start)[-1]


def watch(
    environment: Environment,
    act: Act,
    params: Any,
    statistics: Statistics,
    key: jax.Array,
    steps: int,
) -> tuple[Any, jax.Array]:
    """The states of one episode over time.

    Args:
      environment, act, params, statistics, key: as for `play`.
      steps: the most steps, a Python int.

    Returns:
      `(states, alive)`: states with a leading axis of `steps`, and `(steps,)` bools, whether the episode
      still runs. The episode is that of `play` with the same key and `episodes=1`.
    """
    first, later = jax.random.split(key)
    observations, states = environment.begin(first, 1)

    def advance(carry, time):
        observations, states, alive = carry
        seen = states, alive
        actions = act(params, normalise(statistics, observations))
        own = jax.random.fold_in(later, time)
        observations, states, _, ended = environment.step(own, states, actions)
        return (observations, states, alive & ~ended), seen

    start = (observations, states, jnp.ones(1, bool))
    states, alive = jax.lax.scan(advance, start, jnp.arange(steps))[1]
    return jax.tree.map(lambda leaf: leaf[:, 0], states), alive[:, 0]


def make_generation(
    rollout: Callable[[Any, Statistics, jax.Array], Episodes], tx: ZerothOrder
) -> Callable[[Carry, jax.Array], tuple[Carry, tuple[jax.Array, jax.Array]]]:
    """One generation: ask for policies, play, and tell their mean returns.

    All policies play the same episodes, so that differences are between policies.

    Args:
      rollout: `(params, statistics, key) -> Episodes` of one policy, such as a `partial` of `play`.
      tx: a zojax optimizer. It minimises the negative return.

    Returns:
      `(carry, key) -> (carry, (mean return of the population, environment steps))`, for `jax.lax.scan`.
    """

    def generation(carry: Carry, key: jax.Array):
        params, state, statistics = carry
        asked = jax.random.fold_in(state.rng_key, state.count)
        policies, _ = tx.estimator.ask(asked, params, step=state.count, state=state.estimator_state)
        played = jax.vmap(lambda p: rollout(p, statistics, key))(policies)
        returns = played.returns.mean(axis=1)
        updates, state = tx.update(None, state, params, values=-returns)
        met = jax.tree.map(lambda leaf: leaf.sum(axis=0), played.statistics)
        carry = Carry(apply_updates(params, updates), state, merge(statistics, met))
        return carry, (returns.mean(), played.lengths.sum())

    return generation
