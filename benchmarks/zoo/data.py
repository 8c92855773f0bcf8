"""Data and a loss for every model: what it learns does not matter."""

import jax
import jax.numpy as jnp
import numpy as np

KEY = jax.random.key(0)


def normal(*shape, seed: int = 0) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape, np.float32))


def tokens(*shape, below: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(0).integers(0, below, shape), jnp.int32)


def distance(y) -> jax.Array:
    """Mean squared distance to a fixed target."""
    return jnp.mean(jnp.square(y - jnp.sin(jnp.arange(y.size)).reshape(y.shape)))
