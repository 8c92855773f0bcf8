"""Training in bfloat16 beside float32, from the same weights, batches and directions.

One step is all trainings of a contestant, one a seed, one after another.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import zojax
from benchmarks import races
from benchmarks.contestants import once
from zojax.examples import _mlp
from zojax.examples.finetune import TASKS


class Task(NamedTuple):
    """What is trained: functions, and the batches of all steps on a leading axis."""

    init: Callable[[jax.Array], Any]  # key -> params
    loss: Callable[..., jax.Array]  # (params, batch) -> scalar
    validation: Callable[[Any], jax.Array]  # params -> scalar
    batches: Any


def digits(steps: int, widths) -> Task:
    task = TASKS["digits"]("full", 0)
    draw, (validation,) = task.batches(0, 64), task.split("validation")
    batches = jax.tree.map(lambda *rows: np.stack(rows), *(next(draw) for _ in range(steps)))

    def loss(params, batch):
        return task.objectives["nll"](params, {}, batch)

    return Task(lambda key: _mlp.init(key, widths), loss, lambda p: loss(p, validation), batches)


def transformer(steps: int, **shape) -> Task:
    """Model M, scaled down, on the next characters of the licence."""
    work = races.transformer(**shape)
    batches = jax.vmap(work.batch)(jax.random.split(jax.random.key(0), steps))
    return Task(work.init, work.loss, work.validation, batches)


def lines(steps: int, **shape) -> Task:
    """The same lines in all steps, from weights that bfloat16 holds, with their loss in float32.

    A few steps of a large model change the loss by less than bfloat16 rounds it.
    """
    work = races.transformer(**shape)
    batch = work.batch(jax.random.key(0))

    def wide(params):
        return jax.tree.map(lambda x: x.astype(jnp.float32), params)

    def init(key):
        return wide(jax.tree.map(lambda x: x.astype(jnp.bfloat16), work.init(key)))

    def validation(params):
        return work.loss(wide(params), batch)

    return Task(init, work.loss, validation, jnp.tile(batch, (steps, 1, 1)))


WORKS = {"digits": digits, "transformer": transformer, "lines": lines}
ROUNDINGS = {
    "nearest": lambda tx: tx,
    "stochastic": zojax.stochastic_rounding,
    "compensated": zojax.compensated_rounding,
}


def build(work, dtype: str, rounding: str = "nearest"):
    return once(lambda: trained(work, jnp.dtype(dtype), ROUNDINGS[rounding]))


def trained(work, dtype, rounding) -> dict[str, list]:
    """The validation loss of each seed before, and at `points` steps."""
    task = WORKS[work.task](work.steps, **work.shape)

    def run(key):
        tx = rounding(zojax.zo_sgd(work.rate, zojax.estimator(mu=work.mu), key=key))
        start = task.init(jax.random.key(0) if work.one_start else key)
        params = jax.tree.map(lambda x: x.astype(dtype), start)

        def step(carry, batch):
            params, state = carry
            updates, state = tx.update(None, state, params, value_fn=task.loss, batch=batch)
            return (zojax.apply_updates(params, updates), state), None

        def part(carry, batches):
            carry, _ = jax.lax.scan(step, carry, batches)
            return carry, task.validation(carry[0])

        split = jax.tree.map(lambda x: x.reshape(work.points, -1, *x.shape[1:]), task.batches)
        return task.validation(params), jax.lax.scan(part, (params, tx.init(params)), split)[1]

    keys = jax.random.split(jax.random.key(work.seed), work.seeds)
    before, after = jax.jit(lambda keys: jax.lax.map(run, keys))(keys)
    return {"before": before.tolist(), "validation loss": after.tolist()}
