"""jax.grad and sgd, or adam: one exact gradient instead of many evaluations.

Checkpointed: the backward pass computes each step of a scan over layers again, or without such a scan the
whole loss.
"""

from unittest import mock

import jax
import optax
from jax import lax

from benchmarks.contestants import Program


def checkpointed(loss):
    """The loss with the bodies of its scans under `jax.checkpoint`, or all of it if it has none."""
    scan = lax.scan

    def run(*arguments, **extras):
        used = []

        def shorter(body, *rest, **options):
            used.append(body)
            return scan(jax.checkpoint(body), *rest, **options)

        with mock.patch.object(lax, "scan", shorter):
            value = loss(*arguments, **extras)
        return value if used else jax.checkpoint(loss)(*arguments, **extras)

    return run


def build(work, checkpoint=False, adam=False):
    loss = checkpointed(work.loss) if checkpoint else work.loss
    tx = optax.adam(1e-5) if adam else optax.sgd(1e-6)

    def step(carry, batch):
        params, state = carry
        updates, state = tx.update(jax.grad(loss)(params, batch), state, params)
        return optax.apply_updates(params, updates), state

    return Program(step, lambda params: (params, tx.init(params)))
