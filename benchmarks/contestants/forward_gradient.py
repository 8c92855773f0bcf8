"""Forward gradients: exact directional derivatives by jax.jvp along normals, one at a time.

A jvp costs about two evaluations, so there are half as many directions as evaluations.
"""

import jax
import jax.numpy as jnp
from jax import lax

from benchmarks.contestants import Program
from benchmarks.contestants.naive import draw


def build(work):
    n = work.evaluations // 2

    def step(carry, batch):
        params, key = carry
        key, now = jax.random.split(key)

        def add(total, k):
            z = draw(k, params)
            slope = jax.jvp(lambda p: work.loss(p, batch), (params,), (z,))[1]
            return jax.tree.map(lambda t, u: t + slope * u / n, total, z), None

        zeros = jax.tree.map(jnp.zeros_like, params)
        gradient, _ = lax.scan(add, zeros, jax.random.split(now, n))
        return jax.tree.map(lambda p, g: p - 1e-6 * g, params, gradient), key

    return Program(step, lambda params: (params, jax.random.key(0)))
