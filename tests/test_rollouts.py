"""Statistics, episodes and generations, against sums by hand."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zojax
from zojax import rollouts


def step(key, states, actions):
    """A walk on a line that pays its speed, and ends beyond 3."""
    states = states + actions + 0.1 * jax.random.normal(key, states.shape)
    return states[:, None], states, actions, states > 3


def begin(key, episodes):
    states = jax.random.uniform(key, (episodes,))
    return states[:, None], states


LINE = rollouts.Environment(begin, step)


def act(params, observations):
    return params["speed"] + 0.1 * jnp.tanh(observations[:, 0])


PARAMS = {"speed": jnp.float32(0.4)}
NONE = rollouts.no_statistics(1)


def by_hand(key, episodes):
    first, later = jax.random.split(key)
    observations, states = begin(first, episodes)
    returns, lengths, alive, met = (
        np.zeros(episodes),
        np.zeros(episodes, int),
        [True] * episodes,
        [],
    )
    for time in range(100):
        met += [float(o) for o, a in zip(observations[:, 0], alive, strict=True) if a]
        actions = act(PARAMS, jnp.clip(observations, -5, 5))
        key = jax.random.fold_in(later, time)
        observations, states, rewards, ended = step(key, states, actions)
        returns, lengths = returns + np.where(alive, rewards, 0), lengths + np.array(alive)
        alive = [a and not e for a, e in zip(alive, ended, strict=True)]
        if not any(alive):
            return returns, lengths, np.array(met)


def test_episodes_are_those_by_hand():
    key = jax.random.key(3)
    found = jax.jit(partial(rollouts.play, LINE, act, episodes=3))(PARAMS, NONE, key)
    returns, lengths, met = by_hand(key, 3)
    assert found.lengths.tolist() == lengths.tolist() and len(set(lengths)) > 1
    np.testing.assert_allclose(found.returns, returns, rtol=1e-5)
    assert float(found.statistics.weight) == len(met)
    np.testing.assert_allclose(found.statistics.total, [met.sum()], rtol=1e-5)
    np.testing.assert_allclose(found.statistics.squares, [(met**2).sum()], rtol=1e-5)


def test_a_watched_episode_is_a_played_one():
    key = jax.random.key(5)
    states, alive = jax.jit(partial(rollouts.watch, LINE, act, steps=20))(PARAMS, NONE, key)
    (length,) = rollouts.play(LINE, act, PARAMS, NONE, key, 1).lengths
    assert int(alive.sum()) == int(length) and states.shape == (20,)
    assert np.all(alive[:length]) and np.all(states[: length - 1] <= 3)


@pytest.mark.parametrize("offset", [0.0, 7.0])
def test_normalised_observations_have_mean_0_and_spread_1(offset):
    x = offset + 3 * jax.random.normal(jax.random.key(0), (2000, 2))
    half = len(x) // 2
    parts = [
        rollouts.Statistics(jnp.float32(half), p.sum(0), (p**2).sum(0))
        for p in (x[:half], x[half:])
    ]
    found = rollouts.normalise(rollouts.merge(*parts), x)
    np.testing.assert_allclose(found.mean(0), 0, atol=1e-3)
    np.testing.assert_allclose(found.std(0), 1, atol=1e-2)
    assert rollouts.normalise(rollouts.merge(*parts), x + 1e6).max() == 5


def test_a_constant_observation_is_not_divided_by_zero():
    constant = rollouts.Statistics(jnp.float32(4), jnp.full(1, 8.0), jnp.full(1, 16.0))
    assert rollouts.normalise(constant, jnp.full(1, 2.0)).tolist() == [0.0]


def test_a_generation_is_ask_play_and_tell():
    tx = zojax.open_es(0.1, 0.2, 4, 0.0)
    play = partial(rollouts.play, LINE, act, episodes=2)
    key, state = jax.random.key(1), tx.init(PARAMS)
    generation = jax.jit(rollouts.make_generation(play, tx))
    carry, (mean, steps) = generation(rollouts.Carry(PARAMS, state, NONE), key)
    asked = jax.random.fold_in(state.rng_key, state.count)
    policies, _ = tx.estimator.ask(asked, PARAMS, step=state.count)
    play = jax.jit(play)  # compiled once for all policies
    played = [play(jax.tree.map(lambda p, i=i: p[i], policies), NONE, key) for i in range(4)]
    returns = jnp.stack([p.returns.mean() for p in played])
    updates, _ = tx.update(None, state, PARAMS, values=-returns)
    expected = zojax.apply_updates(PARAMS, updates)["speed"]
    np.testing.assert_allclose(carry.params["speed"], expected, rtol=1e-5)
    np.testing.assert_allclose(mean, returns.mean(), rtol=1e-5)
    assert int(steps) == sum(int(p.lengths.sum()) for p in played)
    counted = NONE.weight + sum(p.statistics.weight for p in played)
    np.testing.assert_allclose(carry.statistics.weight, counted, rtol=1e-6)
