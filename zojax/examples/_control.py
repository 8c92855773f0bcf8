"""Control tasks of gymnax, and a multilayer perceptron as their policy."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from zojax import rollouts
from zojax.examples import _mlp

ENVIRONMENTS = {
    "cartpole": "CartPole-v1",
    "pendulum": "Pendulum-v1",
    "acrobot": "Acrobot-v1",
    "mountaincar": "MountainCarContinuous-v0",
    "breakout": "Breakout-MinAtar",
}


class Control(NamedTuple):
    """One environment and its policy, a multilayer perceptron whose last layer starts at zero."""

    environment: rollouts.Environment  # with flat observations
    act: Callable[[Any, jax.Array], jax.Array]  # (params, observations) -> actions
    init: Callable[[jax.Array], Any]  # key -> params
    size: int  # numbers in an observation
    steps: int  # of the longest episode


def make(name: str, hidden: tuple[int, ...] = (32, 32)) -> Control:
    """One of `ENVIRONMENTS`, and a policy with these hidden layers."""
    import gymnax

    env, settings = gymnax.make(ENVIRONMENTS[name])
    size = int(np.prod(env.observation_space(settings).shape))
    init, act = _policy(env.action_space(settings), size, hidden)
    environment = _side_by_side(env, settings, size)
    return Control(environment, act, init, size, settings.max_steps_in_episode)


def _policy(actions: Any, size: int, hidden: tuple[int, ...]) -> tuple[Callable, Callable]:
    """`init` and `act` of a `Control`."""
    is_discrete = hasattr(actions, "n")
    outputs = actions.n if is_discrete else int(np.prod(actions.shape))

    def init(key):
        *layers, last = _mlp.init(key, (size, *hidden, outputs))
        return (*layers, jax.tree.map(jnp.zeros_like, last))

    def act(params, observations):
        out = _mlp.forward(params, observations)
        if is_discrete:
            return jnp.argmax(out, axis=-1)
        low, high = jnp.min(actions.low), jnp.max(actions.high)
        out = low + (high - low) * jax.nn.sigmoid(out)
        return out[:, 0] if actions.shape == () else out

    return init, act


def _side_by_side(env: Any, settings: Any, size: int) -> rollouts.Environment:
    """Many episodes at once."""

    def flat(observations):
        return observations.reshape(observations.shape[0], size).astype(jnp.float32)

    def begin(key, episodes):
        keys = jax.random.split(key, episodes)
        observations, states = jax.vmap(lambda k: env.reset_env(k, settings))(keys)
        return flat(observations), states

    def step(key, states, actions):
        keys = jax.random.split(key, actions.shape[0])
        observations, states, rewards, ended, _ = jax.vmap(
            lambda k, s, a: env.step_env(k, s, a, settings)
        )(keys, states, actions)
        ended |= jax.vmap(lambda s: env.is_truncated(s, settings))(states)
        return flat(observations), states, rewards.reshape(-1), ended

    return rollouts.Environment(begin, step)
