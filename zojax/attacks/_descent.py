"""Projected descent along an estimated gradient: an estimator asks and is told, a rule steps."""

from collections.abc import Callable
from typing import NamedTuple

import jax

from zojax._estimator import Estimator
from zojax._trees import PyTree
from zojax.attacks import _ball
from zojax.attacks._driver import Attack
from zojax.attacks._losses import ClassLoss


class DescentState(NamedTuple):
    """The iterate, and what the rule remembers."""

    image: jax.Array
    memory: PyTree


def descend(
    norm: str,
    loss: ClassLoss,
    source: Callable[[jax.Array], Estimator],
    points: int,
    step: Callable,
    start: Callable = lambda x: (),
) -> Attack:
    """An attack from an estimator and a rule.

    The estimator is told the losses at the projections of the points that it asked about: at a wall its
    differences shrink, they do not turn.

    Args:
      norm: "linf" or "l2".
      loss: to be lowered.
      source: the estimator for images like x.
      points: its evaluations.
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
