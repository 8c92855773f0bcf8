"""Rounds between calls of a model on the host, which JAX cannot trace."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from zojax._call import PROGRAMS
from zojax._evaluation import Evaluation, Evaluator
from zojax._failures import attach
from zojax.attacks._attack import Attack, Model
from zojax.attacks._driver.checks import check_heard, check_outputs, check_probabilities
from zojax.attacks._driver.rounds import Rounds
from zojax.attacks._driver.types import ImageState, Options
from zojax.attacks._layout import inward, outward
from zojax.attacks._losses import RowSums
from zojax.attacks._result import Result


def run_on_host(
    evaluator: Evaluator,
    model: Model,
    key: jax.Array,
    rounds: Rounds,
    x: ArrayLike,
    y: ArrayLike,
    starts: ArrayLike | None,
    eps: jax.Array,
    batch_size: int,
) -> Result:
    """The rounds of all images, at most `batch_size` images in one call of the model."""
    session = Session(rounds, eps)
    state, calls, heard = session.init(key, x, y, starts), 0, False
    classes = None  # known after the first scores
    fewest = 1 if rounds.options.output == "labels" else max(2, 1 + int(np.max(y)))
    answers: list[np.ndarray] = []
    call = evaluator.call(_copied, (model,))
    with partial_result(lambda: session.result(session.tell(state, answers))):
        while len(points := session.ask(state)):
            parts = [points[i : i + batch_size] for i in range(0, len(points), batch_size)]
            for part, evaluation in zip(parts, evaluator.in_order(call, parts), strict=True):
                answer = _scores(evaluation, evaluator.losses)
                if answer is None:
                    answer = np.full((len(part), classes or fewest), np.nan)
                else:
                    check_outputs(answer, len(part), y, rounds.options.output, classes)
                    answer = answer.reshape(len(part), -1)
                    classes = answer.shape[1]
                answers.append(answer)
                calls, heard = calls + 1, heard or bool(np.any(np.isfinite(answer)))
                check_heard(heard, calls)
            session.check(state, answers)
            # One assignment: an interrupt finds the answers in the list or in the state.
            state, answers = session.tell(state, answers), []
        return session.result(state)


def _copied(images: np.ndarray, model: Model) -> np.ndarray:
    return np.array(model(images))  # a copy: the model may reuse its buffer


def _scores(evaluation: Evaluation, losses: tuple[type[Exception], ...]) -> np.ndarray | None:
    """The scores of a call, or None if it was late or its worker died."""
    try:
        return evaluation.result().returned
    except losses:
        return None


@contextmanager
def partial_result(result: Callable[[], Result]) -> Iterator[None]:
    """Adds the result so far to an exception, as its attribute `partial_result`."""
    try:
        yield
    except BaseException as error:  # Ctrl-C, too
        attach(error, result())
        raise


class Session(NamedTuple):
    """The rounds of an attack between NumPy images and lists of NumPy scores."""

    rounds: Rounds
    eps: jax.Array

    def init(
        self, key: jax.Array, x: ArrayLike, y: ArrayLike, starts: ArrayLike | None
    ) -> ImageState:
        def images(given: ArrayLike) -> jax.Array:
            return inward(jnp.asarray(given, jnp.float32), self.rounds.options.layout)

        y = jnp.asarray(y, jnp.int32)
        starts = None if starts is None else images(starts)
        return _jitted(self.rounds, "start")(key, images(x), y, starts)

    def asked(self, state: ImageState) -> np.ndarray:
        """Which images of a round the model sees: bools (images, points)."""
        points = 1 if _is_fresh(state) else self.rounds.attack.points
        return np.repeat(np.asarray(self.rounds.active(state))[:, None], points, axis=1)

    def ask(self, state: ImageState) -> np.ndarray:
        fresh = _is_fresh(state)
        points = state.x[:, None] if fresh else _jitted(self.rounds, "propose")(self.eps, state)
        images = np.asarray(points)[self.asked(state)]
        return np.ascontiguousarray(outward(images, self.rounds.options.layout))

    def check(self, state: ImageState, answers: list[np.ndarray]) -> None:
        """Raises ValueError if the scores of x cannot be the probabilities that they should be."""
        if self.rounds.options.output == "probabilities" and _is_fresh(state):
            check_probabilities(RowSums.of(np.concatenate(answers)))

    def tell(self, state: ImageState, answers: list[np.ndarray]) -> ImageState:
        """The state after the scores of a round, or of its first images after an interrupt."""
        if not answers:
            return state
        with np.errstate(over="ignore"):  # beyond float32 is infinite, and counted
            outputs = np.concatenate(answers).astype(np.float32)
        answered = self.asked(state)
        answered[answered] = np.arange(answered.sum()) < len(outputs)
        table = np.full((*answered.shape, outputs.shape[1]), np.nan, np.float32)
        table[answered] = outputs
        if _is_fresh(state):
            return _jitted(self.rounds, "tell_first")(state, table[:, 0], answered[:, 0])
        return _jitted(self.rounds, "tell")(self.eps, state, table, answered)

    def result(self, state: ImageState) -> Result:
        return _jitted(self.rounds, "result")(self.eps, state)


def _is_fresh(state: ImageState) -> bool:
    """Whether the model saw no image yet."""
    return not np.any(np.asarray(state.queries))


def _jitted(rounds: Rounds, name: str) -> Callable[..., Any]:
    """A method of `rounds`, compiled; one program serves any budget, targeted or not."""
    budget, targeted, *rest = rounds.options
    return partial(_program(name, rounds.attack, *rest), budget, targeted)


@lru_cache(5 * PROGRAMS)
def _program(name: str, attack: Attack, output: str, layout: str | None) -> Callable[..., Any]:
    def method(budget, targeted, *arrays):
        rounds = Rounds(attack, Options(budget, targeted, output, layout))
        return getattr(rounds, name)(*arrays)

    method.__name__ = name
    return jax.jit(method)
