"""Projected descent along an estimated gradient: an attack from an estimator and a step rule."""

from collections.abc import Callable
from typing import NamedTuple

import jax

from zojax._estimator import Estimator
from zojax._trees import PyTree
from zojax.attacks import _ball
from zojax.attacks._attack import Attack, ClassLoss


class DescentState(NamedTuple):
    """The iterate, and the memory of the rule."""

    image: jax.Array
    memory: PyTree


def descend(
    norm: str,
    loss: ClassLoss,
    source: Callable[[jax.Array], Estimator],
    points: int,
    step: Callable[[jax.Array, jax.Array, PyTree], tuple[jax.Array, PyTree]],
    start: Callable[[jax.Array], PyTree] = lambda x: (),
) -> Attack:
    """An attack from an estimator and a rule.

    The estimator gets the losses at the projected points. At a wall its differences shrink; they keep
    their sign.

    Args:
      source: `source(x) -> estimator` for images like x, with `points` evaluations.
      step: `step(image, grads, memory) -> (step in units of eps, memory)`, to be subtracted.
      start: `start(x) -> memory`.
    """

    def init(key, x, loss):
        del key, loss
        return DescentState(x, start(x))

    def propose(key, state, x, eps, t):
        del eps, t
        return source(x).ask(key, state.image)[0]

    def update(key, state, x, eps, t, points, losses):
        del t, points
        ask = source(x)
        grads = ask.tell(ask.asked(key, state.image), losses)
        move, memory = step(state.image, grads, state.memory)
        return DescentState(_ball.project(state.image - eps * move, x, eps, norm), memory)

    return Attack(norm, loss, points, init, propose, update)
