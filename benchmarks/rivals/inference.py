"""The floor: the loss, as often as a step evaluates it, with nothing perturbed.

Each evaluation depends on the value of the one before, or else XLA would compute it once. Batched: one pass
over as many examples as all evaluations see together.
"""

import jax
import jax.numpy as jnp
from jax import lax

from benchmarks.rivals import Program


def build(work, batched=False):
    if batched:
        return Program(
            lambda carry, batch: (carry[0], work.loss(carry[0], _repeated(batch, carry[1], work))),
            lambda params: (params, jnp.zeros(())),
        )

    def step(carry, batch):
        params, _ = carry

        def evaluation(value, _):
            zero = jnp.where(value > 1e30, 1, 0)
            add = lambda x: x + zero.astype(x.dtype)  # noqa: E731
            moved = (params, jax.tree.map(add, batch)) if batch else (add(params), batch)
            return work.loss(*moved).astype(jnp.float32), None

        return params, lax.scan(evaluation, carry[1], None, work.evaluations)[0]

    return Program(step, lambda params: (params, jnp.zeros(())))


def _repeated(batch, value, work):
    """The batch as often as there are evaluations; other examples each time would cost the same."""
    zero = jnp.where(value > 1e30, 1, 0)
    return jax.tree.map(
        lambda x: jnp.concatenate([x + zero.astype(x.dtype)] * work.evaluations), batch
    )
