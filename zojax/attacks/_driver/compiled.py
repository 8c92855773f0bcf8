"""All rounds of all images in one program."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from zojax._call import compiled_call
from zojax.attacks._attack import Model
from zojax.attacks._driver.rounds import Rounds
from zojax.attacks._driver.types import ImageState
from zojax.attacks._layout import outward
from zojax.attacks._losses import RowSums
from zojax.attacks._result import Result


@compiled_call
def run_compiled(
    model: Model,
    key: jax.Array,
    rounds: Rounds,
    x: jax.Array,
    y: jax.Array,
    starts: jax.Array | None,
    eps: jax.Array,
    batch_size: int,
) -> tuple[Result, RowSums]:
    """The result, and the sums of the scores of x. Images with improper probabilities are not attacked.

    The model comes first: the program lives as long as the model.
    """
    evaluate = partial(_evaluate, model, batch_size, rounds.options.layout)
    outputs = jnp.asarray(evaluate(x), jnp.float32)
    sums, everyone = RowSums.of(outputs), jnp.ones(len(x), bool)
    state = rounds.tell_first(rounds.start(key, x, y, starts), outputs, everyone)
    waiting = rounds.active(state)
    if rounds.options.output == "probabilities":
        waiting &= ~sums.improper

    def advance(state: ImageState) -> ImageState:
        points = rounds.propose(eps, state)
        outputs = evaluate(points.reshape((-1,) + x.shape[1:]))
        outputs = outputs.reshape((*points.shape[:2], -1))
        answered = jnp.broadcast_to(rounds.active(state)[:, None], points.shape[:2])
        return rounds.advance(eps, state, points, outputs, answered)

    slots = max(1, min(len(x), batch_size // rounds.attack.points))
    return rounds.result(eps, _in_slots(advance, rounds.active, state, waiting, slots)), sums


def _in_slots(
    advance: Callable[[ImageState], ImageState],
    active: Callable[[ImageState], jax.Array],
    state: ImageState,
    waiting: jax.Array,
    slots: int,
) -> ImageState:
    """The state after all rounds, with at most `slots` images under attack at a time.

    When an eighth of the slots is free, waiting images take their places: solved images cost nothing, and
    the model is compiled twice, whatever the number of images.
    """
    count = len(waiting)
    queue, total = jnp.argsort(~waiting), jnp.sum(waiting)

    def attack_and_refill(carry):
        state, rows, taken = carry  # rows: the image of each slot, or `count` for none
        part = jax.tree.map(lambda leaf: leaf.at[rows].get(mode="clip"), state)
        part = part._replace(solved=part.solved | (rows == count))
        enough = jnp.where(taken < total, slots - max(1, slots // 8), 0)
        part = lax.while_loop(lambda part: jnp.sum(active(part)) > enough, advance, part)
        written = jax.tree.map(lambda a, b: a.at[rows].set(b, mode="drop"), state[4:], part[4:])
        state = ImageState(*state[:4], *written)  # key, x, y and start, the first, never change
        free = ~active(part)
        place = taken + jnp.cumsum(free) - 1
        following = jnp.where(place < total, queue[jnp.clip(place, 0, count - 1)], count)
        return state, jnp.where(free, following, rows), jnp.minimum(place[-1] + 1, total)

    first = jnp.where(jnp.arange(slots) < total, queue[:slots], count)
    carry = state, first, jnp.minimum(slots, total)
    return lax.while_loop(lambda carry: jnp.any(carry[1] < count), attack_and_refill, carry)[0]


def _evaluate(model: Model, batch_size: int, layout: str | None, points: jax.Array) -> jax.Array:
    """The model's scores or labels, (n, columns), at most `batch_size` images at a time."""
    points, n = outward(points, layout), len(points)
    if n <= batch_size:
        return jnp.asarray(model(points)).reshape(n, -1)
    batches = -(-n // batch_size)
    size = -(-n // batches)
    padded = jnp.pad(points, [(0, batches * size - n)] + [(0, 0)] * (points.ndim - 1))
    outputs = lax.map(model, padded.reshape((batches, size) + points.shape[1:]))
    return outputs.reshape(batches * size, -1)[:n]
