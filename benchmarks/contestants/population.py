"""Generations of low-rank members, each pair with examples of its own, beside plain inference.

Evaluation alone starts from drawn factors; a generation draws them, evaluates, shapes and updates.
Inference sees as many examples as the population: both members of a pair count.
"""

import jax
import jax.numpy as jnp
import optax

import zojax
from benchmarks.contestants import Program, ours
from zojax import directions, implicit, shaping

MU = 1e-2


def build(work, kind):
    pairs, direction = work.evaluations // 2, directions.low_rank()
    builds = {"plain inference": _inference, "zojax, generation": _generation}
    return builds.get(kind, _evaluation)(work, pairs, direction)


def _inference(work, pairs, direction):
    def step(carry, batch):
        merged = {k: jnp.concatenate([x, x]).reshape(-1, *x.shape[2:]) for k, x in batch.items()}
        return carry[0], work.loss(carry[0], merged)

    return Program(step, lambda params: (params, jnp.zeros(())))


def _evaluation(work, pairs, direction):
    def start(params):
        like = jax.eval_shape(lambda: params)
        frame = direction.frame(jax.random.key(0), pairs, like)
        noise = jax.vmap(lambda i: direction.draw(frame, i, like))(jnp.arange(pairs))
        return params, noise, jnp.zeros((pairs, 2))

    def step(carry, batch):
        params, noise, _ = carry

        def pair(z, b):
            def at(offset):
                return implicit.evaluate(lambda p: work.loss(p, b), params, z, offset * MU)

            return jax.vmap(at)(jnp.array([1.0, -1.0]))

        return params, noise, jax.vmap(pair)(noise, batch)

    return Program(step, start)


def _generation(work, pairs, direction):
    options = {"shaping": shaping.standardize(), "in_axes": {"batch": 0}}
    estimator = zojax.estimator(direction, mu=MU, num_directions=pairs, **options)
    return ours.program(work, zojax.zeroth_order(optax.sgd(1e-3), estimator))
