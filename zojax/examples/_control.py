"""Control tasks of gymnax: a policy, its episodes, and frames of one episode.

Observations are normalised by the mean and the spread of those that the policy has met so far.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from zojax.examples import _mlp

__all__ = ["ENVIRONMENTS", "Episodes", "Task", "frames", "make", "merge", "no_statistics"]

ENVIRONMENTS = {
    "cartpole": "CartPole-v1",
    "pendulum": "Pendulum-v1",
    "acrobot": "Acrobot-v1",
    "mountaincar": "MountainCarContinuous-v0",
    "breakout": "Breakout-MinAtar",
}


class Statistics(NamedTuple):
    """Sums over observations: how many, their total, the total of their squares."""

    count: jax.Array
    total: jax.Array
    squares: jax.Array


class Episodes(NamedTuple):
    """What some episodes of one policy gave.

    Attributes:
      returns: `(episodes,)`, the sums of rewards.
      lengths: `(episodes,)`, their steps.
      statistics: of the observations met.
    """

    returns: jax.Array
    lengths: jax.Array
    statistics: Statistics


class Task(NamedTuple):
    """One environment and the shape of its policy.

    Attributes:
      init: `(key) -> params`, of a multilayer perceptron whose last layer is zero.
      play: `(params, statistics, key, episodes) -> Episodes`, all at once.
      watch: `(params, statistics, key) -> (states, alive)` of one episode, stacked over time.
      size: numbers in an observation.
      steps: the longest episode.
    """

    init: Callable[..., Any]
    play: Callable[..., Episodes]
    watch: Callable[..., Any]
    size: int
    steps: int


def no_statistics(size):
    """Before anything was observed: mean 0 and spread 1."""
    return Statistics(jnp.float32(1e-2), jnp.zeros(size), jnp.full(size, 1e-2))


def merge(a, b):
    """The statistics of both."""
    return jax.tree.map(jnp.add, a, b)


def make(name, hidden=(32, 32)):
    """A `Task`.

    Args:
      name: a key of `ENVIRONMENTS`.
      hidden: widths of the hidden layers.

    Raises:
      ModuleNotFoundError: where gymnax is not installed.
    """
    import gymnax

    env, settings = gymnax.make(ENVIRONMENTS[name])
    size = int(np.prod(env.observation_space(settings).shape))
    steps = settings.max_steps_in_episode
    init, act = _policy(env.action_space(settings), size, hidden)
    begin, step = _side_by_side(env, settings, size)

    def follow(key, params, statistics, observations, states):
        """One step of every episode under a policy."""
        return step(key, states, act(params, statistics, observations))

    play, watch = partial(_play, begin, follow), partial(_watch, begin, follow, steps)
    return Task(init, play, watch, size, steps)


def _policy(actions, size, hidden):
    """`init(key) -> params`, and `act(params, statistics, observations) -> actions` of all episodes."""
    discrete = hasattr(actions, "n")
    outputs = actions.n if discrete else int(np.prod(actions.shape))

    def init(key):
        *layers, last = _mlp.init(key, (size, *hidden, outputs))
        return (*layers, jax.tree.map(jnp.zeros_like, last))

    def act(params, statistics, observations):
        mean = statistics.total / statistics.count
        spread = jnp.sqrt(jnp.maximum(statistics.squares / statistics.count - mean**2, 1e-4))
        out = _mlp.forward(params, jnp.clip((observations - mean) / spread, -5.0, 5.0))
        if discrete:
            return jnp.argmax(out, axis=-1)
        low, high = jnp.min(actions.low), jnp.max(actions.high)
        out = low + (high - low) * jax.nn.sigmoid(out)
        return out[:, 0] if actions.shape == () else out

    return init, act


def _side_by_side(env, settings, size):
    """Many episodes at once, observations flat: `begin(key, episodes)` and `step(key, states, actions)`.

    They return observations and states; a step also rewards, and whether each episode ended.
    """

    def flat(observations):
        return observations.reshape(observations.shape[0], size).astype(jnp.float32)

    def begin(key, episodes):
        observations, states = jax.vmap(lambda k: env.reset_env(k, settings))(
            jax.random.split(key, episodes)
        )
        return flat(observations), states

    def step(key, states, actions):
        observations, states, rewards, ended, _ = jax.vmap(
            lambda k, s, a: env.step_env(k, s, a, settings)
        )(jax.random.split(key, actions.shape[0]), states, actions)
        ended |= jax.vmap(lambda s: env.is_truncated(s, settings))(states)
        return flat(observations), states, rewards.reshape(-1), ended

    return begin, step


def _play(begin, follow, params, statistics, key, episodes):
    """`Episodes`, played until the last of them ends."""
    first, later = jax.random.split(key)
    observations, states = begin(first, episodes)

    def more(carry):
        return jnp.any(carry[0])

    def advance(carry):
        alive, time, observations, states, found = carry
        weight = alive.astype(jnp.float32)
        sums = Statistics(weight.sum(), weight @ observations, weight @ jnp.square(observations))
        observations, states, rewards, ended = follow(
            jax.random.fold_in(later, time), params, statistics, observations, states
        )
        found = Episodes(
            found.returns + weight * rewards,
            found.lengths + alive,
            merge(found.statistics, sums),
        )
        return alive & ~ended, time + 1, observations, states, found

    size = observations.shape[1]
    nothing = Statistics(jnp.float32(0), jnp.zeros(size), jnp.zeros(size))
    found = Episodes(jnp.zeros(episodes), jnp.zeros(episodes, jnp.int32), nothing)
    start = (jnp.ones(episodes, bool), jnp.int32(0), observations, states, found)
    return jax.lax.while_loop(more, advance, start)[-1]


def _watch(begin, follow, steps, params, statistics, key):
    """The states of one episode over time, and whether it still runs in each of them."""
    first, later = jax.random.split(key)
    observations, states = begin(first, 1)

    def advance(carry, time):
        observations, states, alive = carry
        seen = states, alive
        observations, states, _, ended = follow(
            jax.random.fold_in(later, time), params, statistics, observations, states
        )
        return (observations, states, alive & ~ended), seen

    start = (observations, states, jnp.ones(1, bool))
    states, alive = jax.lax.scan(advance, start, jnp.arange(steps))[1]
    return jax.tree.map(lambda leaf: leaf[:, 0], states), alive[:, 0]


# --- pictures ---------------------------------------------------------------------------------------


def frames(name, task, params, statistics, key, axes):
    """Draws one episode into a row of axes, at even distances in time.

    Args:
      name: a key of `ENVIRONMENTS`.
      task: its `Task`.
      params: of the policy.
      statistics: of the observations.
      key: a JAX key.
      axes: Matplotlib axes, one a frame.
    """
    states, alive = jax.jit(task.watch)(params, statistics, key)
    length = int(np.sum(np.asarray(alive)))
    for axis, time in zip(axes, np.linspace(0, length - 1, len(axes)).astype(int), strict=True):
        _DRAW[name](axis, jax.tree.map(lambda leaf, t=time: np.asarray(leaf[t]), states))
        axis.set_title(f"step {time}", fontsize=8)
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_color("0.8")


def _cartpole(axis, s):
    axis.plot([-2.4, 2.4], [0, 0], color="0.6", linewidth=1)
    axis.add_patch(_rectangle(s.x - 0.4, -0.15, 0.8, 0.3, "0.2"))
    axis.plot([s.x, s.x + np.sin(s.theta)], [0.15, 0.15 + np.cos(s.theta)], color="C3", linewidth=4)
    axis.set(xlim=(-1.9, 1.9), ylim=(-1.1, 1.9), aspect="equal")


def _pendulum(axis, s):
    axis.plot([0, np.sin(s.theta)], [0, np.cos(s.theta)], color="C3", linewidth=5)
    axis.plot(0, 0, "o", color="0.2")
    axis.set(xlim=(-1.3, 1.3), ylim=(-1.3, 1.3), aspect="equal")


def _acrobot(axis, s):
    elbow = np.array([np.sin(s.joint_angle1), -np.cos(s.joint_angle1)])
    both = s.joint_angle1 + s.joint_angle2
    hand = elbow + np.array([np.sin(both), -np.cos(both)])
    axis.plot(*np.stack([np.zeros(2), elbow, hand], axis=1), "o-", color="C3", linewidth=3)
    axis.axhline(1, color="0.6", linewidth=1)
    axis.set(xlim=(-2.2, 2.2), ylim=(-2.2, 2.2), aspect="equal")


def _mountaincar(axis, s):
    x = np.linspace(-1.2, 0.6, 100)
    axis.plot(x, np.sin(3 * x), color="0.6")
    axis.plot(0.45, np.sin(3 * 0.45), marker="^", color="C2")
    axis.plot(s.position, np.sin(3 * s.position) + 0.08, "o", color="C3", markersize=9)
    axis.set(ylim=(-1.2, 1.3))


def _breakout(axis, s):
    picture = np.ones((10, 10, 3))
    picture[np.asarray(s.brick_map) > 0] = (0.55, 0.55, 0.6)
    picture[int(s.last_y), int(s.last_x)] = (0.95, 0.75, 0.75)
    picture[int(s.ball_y), int(s.ball_x)] = (0.84, 0.15, 0.16)
    picture[9, int(s.pos)] = (0.12, 0.47, 0.71)
    axis.imshow(picture, interpolation="nearest")


def _rectangle(x, y, width, height, color):
    from matplotlib.patches import Rectangle

    return Rectangle((x, y), width, height, color=color)


_DRAW = {
    "cartpole": _cartpole,
    "pendulum": _pendulum,
    "acrobot": _acrobot,
    "mountaincar": _mountaincar,
    "breakout": _breakout,
}
