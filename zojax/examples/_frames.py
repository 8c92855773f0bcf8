"""Frames of one episode, drawn for each environment of the policy example."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np


def frames(name: str, states: Any, alive: jax.Array, axes: Sequence[Any]) -> None:
    """Draws one episode of an environment, see `zojax.rollouts.watch`, into a row of axes."""
    length = int(np.sum(np.asarray(alive)))
    for axis, time in zip(axes, np.linspace(0, length - 1, len(axes)).astype(int), strict=True):
        _DRAW[name](axis, jax.tree.map(lambda leaf, t=time: np.asarray(leaf[t]), states))
        axis.set_title(f"step {time}", fontsize=8)
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_color("0.8")


def _cartpole(axis, s):
    from matplotlib.patches import Rectangle

    axis.plot([-2.4, 2.4], [0, 0], color="0.6", linewidth=1)
    axis.add_patch(Rectangle((s.x - 0.4, -0.15), 0.8, 0.3, color="0.2"))
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


_DRAW = {
    "cartpole": _cartpole,
    "pendulum": _pendulum,
    "acrobot": _acrobot,
    "mountaincar": _mountaincar,
    "breakout": _breakout,
}
