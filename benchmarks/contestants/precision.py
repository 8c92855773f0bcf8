"""Training in bfloat16 beside float32: the digits, from the same weights, batches and directions.

One step is all trainings of a contestant, one a seed, side by side.
"""

import jax
import jax.numpy as jnp
import numpy as np

import zojax
from benchmarks.contestants import once
from zojax.examples import _mlp
from zojax.examples.finetune import TASKS

ROUNDINGS = {
    "nearest": lambda tx: tx,
    "stochastic": zojax.stochastic_rounding,
    "compensated": zojax.compensated_rounding,
}


def build(work, dtype: str, rounding: str = "nearest"):
    return once(lambda: trained(work, jnp.dtype(dtype), ROUNDINGS[rounding]))


def trained(work, dtype, rounding) -> dict[str, list]:
    """The validation loss of each seed before, and at `points` steps."""
    task, batches = TASKS["digits"]("full", 0), []
    draw = task.batches(0, 64)
    for _ in range(work.steps):
        batches.append(next(draw))
    batches = jax.tree.map(lambda *rows: np.stack(rows), *batches)
    (validation,) = task.split("validation")

    def loss(params, batch):
        return task.objectives["nll"](params, {}, batch)

    def mean(params):
        return loss(params, validation)

    def run(key):
        tx = rounding(zojax.zo_sgd(work.rate, zojax.estimator(mu=1e-2), key=key))
        start = _mlp.init(key, work.widths)
        params = jax.tree.map(lambda x: x.astype(dtype), start)

        def step(carry, batch):
            params, state = carry
            updates, state = tx.update(None, state, params, value_fn=loss, batch=batch)
            return (zojax.apply_updates(params, updates), state), None

        def part(carry, batches):
            carry, _ = jax.lax.scan(step, carry, batches)
            return carry, mean(carry[0])

        split = jax.tree.map(lambda x: x.reshape(work.points, -1, *x.shape[1:]), batches)
        return mean(params), jax.lax.scan(part, (params, tx.init(params)), split)[1]

    before, after = jax.jit(jax.vmap(run))(jax.random.split(jax.random.key(0), work.seeds))
    return {"before": before.tolist(), "validation loss": after.tolist()}
