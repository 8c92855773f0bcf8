"""A first implementation: antithetic pairs with jax.random.normal on the tree.

"vmap" draws all directions, evaluates them side by side and adds them up. "map" takes one direction at a
time, and adds it to the sum before the next. One direction needs neither. Each is drawn once.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from optax.tree import random_like

from benchmarks.contestants import Program


def descent(estimate: Callable[[Any, dict, jax.Array], Any]) -> Program:
    """Gradient descent along `estimate(params, batch, key)`."""

    def step(carry, batch):
        params, key = carry
        key, now = jax.random.split(key)
        gradient = estimate(params, batch, now)
        return jax.tree.map(lambda p, g: p - 1e-6 * g, params, gradient), key

    return Program(step, lambda params: (params, jax.random.key(0)))


def central(loss: Callable, mu: float) -> Callable[[Any, dict, Any], jax.Array]:
    """The slope of a loss along z, from two values."""

    def slope(params, batch, z):
        plus, minus = (
            loss(jax.tree.map(lambda p, u, o=o: p + o * u, params, z), batch) for o in (mu, -mu)
        )
        return (plus - minus) / (2 * mu)

    return slope


def one_by_one(n: int, slope: Callable[[Any, dict, Any], jax.Array]) -> Program:
    """The mean of `slope(params, batch, z) z` over n normal directions z, one after another."""

    def estimate(params, batch, key):
        def add(total, k):
            z = random_like(k, params)
            c = slope(params, batch, z)
            return jax.tree.map(lambda t, u: t + c * u / n, total, z), None

        zeros = jax.tree.map(jnp.zeros_like, params)
        return lax.scan(add, zeros, jax.random.split(key, n))[0]

    return descent(estimate)


def build(work, how):
    n = work.evaluations // 2

    slope = central(work.loss, work.mu)

    def once(params, batch, key):
        z = random_like(key, params)
        c = slope(params, batch, z)
        return jax.tree.map(lambda u: c * u, z)

    def vmapped(params, batch, key):
        z = jax.vmap(lambda k: random_like(k, params))(jax.random.split(key, n))
        c = jax.vmap(lambda u: slope(params, batch, u))(z)
        return jax.tree.map(lambda u: jnp.tensordot(c, u, 1) / n, z)

    if n == 1:
        return descent(once)
    return descent(vmapped) if how == "vmap" else one_by_one(n, slope)
