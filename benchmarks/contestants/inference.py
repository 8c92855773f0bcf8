"""Plain inference: the loss as often as a step evaluates it, nothing perturbed.

- once: one evaluation.
- calls: a call of a compiled forward for each evaluation.
- unrolled: all evaluations in one program, each at a point of its own.
- inference: a loop. Each evaluation depends on the value before, or XLA would compute it once.
- batched: one pass over the examples of all evaluations.
- vmapped: the same for any batch: copies of it along an axis of their own.
- loop: over the batch and its reverse.
"""

import jax
import jax.numpy as jnp
from jax import lax

from benchmarks import works
from benchmarks.contestants import Host, Program


def build(work, how="inference"):
    return {
        "once": _once,
        "calls": _calls,
        "unrolled": _unrolled,
        "inference": _inference,
        "batched": _batched,
        "vmapped": _vmapped,
        "loop": _loop,
    }[how](work)


def _with_value(params):
    return params, jnp.zeros(())


def _once(work):
    def facts():
        from zojax import directions, implicit

        def loss(params, **batch):
            return work.loss(params, batch)

        report = implicit.explain(loss, work.params, directions.normal(), **work.batch)
        return {"largest_slice": report.largest_slice}

    def step(carry, batch):
        return carry[0], work.loss(carry[0], batch).astype(jnp.float32)

    return Program(step, _with_value, facts)


def _calls(work):
    params, batch = works.fill(work.params), works.fill(work.batch, seed=1)
    forward = jax.jit(work.loss).lower(params, batch).compile()

    def run():
        jax.block_until_ready([forward(params, batch) for _ in range(work.evaluations)])

    return Host(run)


def _unrolled(work):
    """Each evaluation at a point of its own, as in a step."""

    def step(carry, batch):
        points, _ = carry
        return points, sum(work.loss(p, batch) for p in points).astype(jnp.float32)

    copies = work.evaluations
    return Program(step, lambda params: _with_value([jax.tree.map(jnp.copy, params)] * copies))


def _inference(work):
    def step(carry, batch):
        params, _ = carry

        def evaluation(value, _):
            add = _adding_zero(value)
            moved = (params, jax.tree.map(add, batch)) if batch else (add(params), batch)
            return work.loss(*moved).astype(jnp.float32), None

        return params, lax.scan(evaluation, carry[1], None, work.evaluations)[0]

    return Program(step, _with_value)


def _batched(work):
    """The batch as often as there are evaluations; other examples each time would cost the same."""

    def step(carry, batch):
        add = _adding_zero(carry[1])
        repeated = jax.tree.map(lambda x: jnp.concatenate([add(x)] * work.evaluations), batch)
        return carry[0], work.loss(carry[0], repeated)

    return Program(step, _with_value)


def _vmapped(work):
    def step(carry, batch):
        def evaluation(index):
            return work.loss(carry[0], jax.tree.map(_adding_zero(index), batch))

        indices = jnp.arange(work.evaluations) + carry[1]  # not known when compiled
        return carry[0], jnp.sum(jax.vmap(evaluation)(indices))

    return Program(step, _with_value)


def _loop(work):
    def step(carry, batch):
        def turned(turn):
            moved = jax.tree.map(lambda x: jnp.where(turn, x[::-1], x), batch)
            return work.loss(carry[0], moved).astype(jnp.float32)

        return carry[0], jnp.sum(lax.map(turned, jnp.array([False, True])))

    return Program(step, _with_value)


def _adding_zero(value):
    """Adds a zero that depends on the value."""
    zero = jnp.where(value > 1e30, 1, 0)
    return lambda x: x + zero.astype(x.dtype)
