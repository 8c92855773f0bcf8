"""Attacks on models that no function call reaches: `ask` for images, `tell` their scores."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.typing import ArrayLike

from zojax._keys import as_key
from zojax.attacks import _ball
from zojax.attacks._attack import Attack
from zojax.attacks._driver.checks import check_images, check_options, check_outputs, check_starts
from zojax.attacks._driver.host import Session
from zojax.attacks._driver.rounds import Rounds
from zojax.attacks._driver.types import ImageState
from zojax.attacks._result import Result, warned


class AskTell(NamedTuple):
    """An attack as four pure functions of a state; made by `ask_tell`.

    Attributes:
      init: `init(key, x, y, starts=None) -> state`.
      ask: `ask(state) -> points`, NumPy images (n, ...) to evaluate; n = 0 at the end.
      tell: `tell(state, outputs) -> state`, from scores (n, classes) or labels (n,). The state is a value:
        after an error the last state is still good.
      result: `result(state) -> Result`, at any time.
    """

    init: Callable[..., Any]
    ask: Callable[[Any], np.ndarray]
    tell: Callable[[Any, ArrayLike], Any]
    result: Callable[[Any], Result]


def ask_tell(
    attack: Attack,
    eps: float | jax.Array,
    budget: int = 1000,
    targeted: bool = False,
    output: str = "logits",
    *,
    layout: str | None = None,
) -> AskTell:
    """An attack on a model that no function call reaches.

    Args:
      attack: for example `attacks.square_attack()`.
      eps: radius of the ball, in units of the image.
      budget: most queries an image, the first of them for x itself. The default suits random search
        (`square`, `simba`); gradient estimates need more, 10,000 by default in their own functions.
      targeted: whether y is the class to reach instead of the class to leave.
      output: what `tell` gets: "logits", "probabilities", or "labels" for an attack from labels.
      layout: axes of x and of the images: "nhwc" or "nchw". None is "nhwc", with a warning where x looks
        like "nchw".

    Returns:
      An `AskTell`. It asks only about images that are not solved and have budget left.

    Raises:
      ValueError, TypeError: as the attacks.

    Warns:
      UserWarning: in `result`, for images that were not really attacked (`Result.unusable`, `.flat`).

    >>> import numpy as np
    >>> from zojax import attacks
    >>> session = attacks.ask_tell(attacks.simba_attack(norm="linf"), eps=0.2, budget=50)
    >>> state = session.init(0, np.full((3, 4, 4), 0.5, np.float32), np.zeros(3, int))
    >>> while len(points := session.ask(state)):
    ...     total = points.sum(axis=(1, 2))  # the model is in doubt at a total of 7.5
    ...     state = session.tell(state, np.stack([total, 15 - total], axis=1))
    >>> session.result(state).success
    Array([ True,  True,  True], dtype=bool)
    """
    options = check_options(attack, eps, budget, targeted, output, layout)
    session = Session(Rounds(attack, options), _ball.radius(eps))

    def init(
        key: int | jax.Array, x: ArrayLike, y: ArrayLike, starts: ArrayLike | None = None
    ) -> ImageState:
        images, classes = check_images(x, y, layout)
        return session.init(as_key(key), images, classes, check_starts(starts, attack, images))

    def tell(state: ImageState, outputs: ArrayLike) -> ImageState:
        scores = np.asarray(outputs)
        check_outputs(scores, session.asked(state).sum(), state.y, options.output)
        scores = scores.reshape(len(scores), -1)
        session.check(state, [scores])
        return session.tell(state, [scores])

    def result(state: ImageState) -> Result:
        return warned(session.result(state))

    return AskTell(init, session.ask, tell, result)
