"""Noise, evaluations, estimates and steps on this device beside the CPU's, with products in full precision.

Signs have the same bits everywhere. Sums differ by rounding, and the stencil divides it by mu.
"""

import time
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax

import zojax
from benchmarks import works
from benchmarks.contestants import once
from benchmarks.reliability.estimates import DIRECTIONS
from zojax import directions, implicit, noise
from zojax._trees import structure_of

MU = 0.1


def build(work):
    """Facts: the checks that were made in time, each with its error and limit."""
    return once(lambda: {"checks": list(_checks(work.seconds))})


def _checks(seconds: float):
    end = time.monotonic() + seconds
    with jax.default_matmul_precision("highest"):
        for name, error, limit in CHECKS:
            if time.monotonic() < end:
                yield {"check": name, "error": error(), "limit": limit}


def difference(a, b) -> float:
    """The largest difference of two trees, over the largest entry of each leaf."""

    def one(x, y):
        x, y = (np.asarray(leaf, np.float64) for leaf in (x, y))
        return np.max(np.abs(x - y)) / max(np.max(np.abs(y)), 1e-30)

    return float(max(jax.tree.leaves(jax.tree.map(one, a, b))))


def against_cpu(fun, *arguments) -> float:
    """The difference between the results on this device and on the CPU."""
    cpu = jax.local_devices(backend="cpu")[0]
    here = jax.jit(fun)(*arguments)
    with jax.default_device(cpu):
        there = jax.jit(fun)(*jax.device_put(arguments, cpu))
    return difference(here, there)


def _model(dtype=jnp.float32):
    model = works.GRADIENTS["mlp"](batch=16, widths=(32, 64, 10))
    params = jax.tree.map(lambda x: x.astype(dtype), works.fill(model.params, 0, 0.2))
    return partial(_loss, model, works.fill(model.batch, 1, 1.0)), params


def _loss(model, batch, params):
    return model.loss(params, **batch)


def _noise(source) -> float:
    return against_cpu(lambda seed: noise.row_noise(source(seed), (64, 257)).dense(), _seed())


def _seed():
    return jnp.array([3, 5], jnp.uint32)


def _estimate(direction) -> float:
    loss, params = _model()
    estimator = zojax.estimator(direction(), mu=MU, num_directions=4)
    return against_cpu(lambda p: estimator.estimate(7, loss, p).grads, params)


def _evaluation(direction) -> float:
    loss, params = _model(jnp.bfloat16)

    def values(params):
        like = structure_of(params)
        frame = direction.frame(jax.random.key(1), 4, like)
        one = lambda i: implicit.evaluate(loss, params, direction.draw(frame, i, like), MU)  # noqa: E731
        return jax.vmap(one)(jnp.arange(4))

    return against_cpu(values, params)


def _step_in_a_loop() -> float:
    """Three steps, each a program of its own, against three in one program; both on this device."""
    loss, start = _model()
    tx = zojax.mezo(0.01, MU, key=3)

    def step(carry, _=None):
        params, state = carry
        updates, state = tx.update(None, state, params, value_fn=loss)
        return (optax.apply_updates(params, updates), state), None

    alone = start, tx.init(start)
    for _ in range(3):
        alone = jax.jit(step)(alone)[0]
    together = jax.jit(lambda carry: jax.lax.scan(step, carry, None, 3)[0])((start, tx.init(start)))
    return difference(alone[0], together[0])


CHECKS = [
    ("bits of signs", partial(_noise, noise.Signs), 0.0),
    ("normals", partial(_noise, noise.Normals), 1e-6),
    ("bits of a step in two programs", _step_in_a_loop, 0.0),
    *((f"estimate, {name}", partial(_estimate, make), 1e-3) for name, make in DIRECTIONS.items()),
    ("bfloat16 losses, signs", partial(_evaluation, directions.rademacher()), 0.02),
    ("bfloat16 losses, low rank", partial(_evaluation, directions.low_rank()), 0.02),
]
