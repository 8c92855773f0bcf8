"""Probabilities of options, for the coordinates without order of a distribution."""

import jax
import jax.numpy as jnp
import numpy as np

from zojax.search.spaces import Space

RATE, LEAST = 0.1, 0.01  # of a step; of an option


def first_shares(space: Space, dtype) -> jax.Array:
    """Equal probabilities, (d, options). Coordinates with an order have one option or more, unused."""
    present = np.arange(np.max(space.options)) < space.options[:, None]
    return jnp.asarray(present / present.sum(1, keepdims=True), dtype)


def option_at(shares: jax.Array, u: jax.Array) -> jax.Array:
    """The options (..., d) at uniform numbers u (..., d)."""
    edges = jnp.cumsum(shares, axis=1)
    return jnp.minimum(jnp.sum(u[..., None] >= edges, axis=-1), shares.shape[1] - 1)


def share_of(chosen: jax.Array, weights: jax.Array, options: int) -> jax.Array:
    """The weight of each option, (d, options), from options (n, d) and weights (n,)."""
    return jnp.einsum("n,ndk->dk", weights, jax.nn.one_hot(chosen, options, dtype=weights.dtype))


def moved_shares(shares: jax.Array, towards: jax.Array) -> jax.Array:
    """A tenth of the way to other shares. Every option keeps some probability."""
    if shares.shape[1] == 1:
        return shares
    moved = (1 - RATE) * shares + RATE * towards
    moved = jnp.where(shares > 0, jnp.maximum(moved, LEAST), 0.0)
    return moved / jnp.sum(moved, axis=1, keepdims=True)
