"""A first implementation: antithetic pairs with jax.random.normal on the tree.

"vmap" draws all directions, evaluates them side by side and adds them up. "map" takes one direction at a
time, and adds it to the sum before the next. One direction needs neither. Each is drawn once.
"""

import jax
import jax.numpy as jnp
from jax import lax

from benchmarks.contestants import Program


def draw(key, params):
    """Normals in the place of parameters."""
    leaves, treedef = jax.tree.flatten(params)
    keys = jax.random.split(key, len(leaves))
    return treedef.unflatten(
        [jax.random.normal(k, x.shape, x.dtype) for k, x in zip(keys, leaves, strict=True)]
    )


def build(work, how):
    n = work.evaluations // 2

    def slope(params, batch, z):
        plus, minus = (
            work.loss(jax.tree.map(lambda p, u, o=o: p + o * u, params, z), batch)
            for o in (work.mu, -work.mu)
        )
        return (plus - minus) / (2 * work.mu)

    def once(params, batch, key):
        z = draw(key, params)
        c = slope(params, batch, z)
        return jax.tree.map(lambda u: c * u, z)

    def vmapped(params, batch, key):
        z = jax.vmap(lambda k: draw(k, params))(jax.random.split(key, n))
        c = jax.vmap(lambda u: slope(params, batch, u))(z)
        return jax.tree.map(lambda u: jnp.tensordot(c, u, 1) / n, z)

    def mapped(params, batch, key):
        def add(total, k):
            z = draw(k, params)
            c = slope(params, batch, z)
            return jax.tree.map(lambda t, u: t + c * u / n, total, z), None

        zeros = jax.tree.map(jnp.zeros_like, params)
        return lax.scan(add, zeros, jax.random.split(key, n))[0]

    estimate = once if n == 1 else {"vmap": vmapped, "map": mapped}[how]

    def step(carry, batch):
        params, key = carry
        key, now = jax.random.split(key)
        gradient = estimate(params, batch, now)
        return jax.tree.map(lambda p, g: p - 1e-6 * g, params, gradient), key

    return Program(step, lambda params: (params, jax.random.key(0)))
