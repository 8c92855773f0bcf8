"""zojax: antithetic pairs, then sgd."""

import optax

import zojax
from benchmarks.contestants import Program
from zojax import directions


def build(work, direction="rademacher", batch_size=None, **options):
    made, count = getattr(directions, direction)(**options), work.evaluations // 2
    estimator = zojax.estimator(made, mu=work.mu, num_directions=count, batch_size=batch_size)
    return program(work, zojax.zeroth_order(optax.sgd(1e-6), estimator))


def program(work, tx) -> Program:
    """A step of a transformation of zojax."""

    def step(carry, batch):
        params, state = carry
        updates, state = tx.update(None, state, params, value_fn=work.loss, batch=batch)
        return optax.apply_updates(params, updates), state

    return Program(step, lambda params: (params, tx.init(params)))
