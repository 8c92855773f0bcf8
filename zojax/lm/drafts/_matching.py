"""Places of a text that follow the same last tokens."""

import jax
import jax.numpy as jnp
import numpy as np

NGRAM = 3  # the last tokens that are compared


def taken(x: jax.Array, index: jax.Array) -> jax.Array:
    """Entries of each row of `x` `(B, N)` at `index` `(B, ...)`; -1 outside."""
    flat = index.reshape(len(x), -1)
    found = jnp.take_along_axis(x, jnp.clip(flat, 0, x.shape[1] - 1), axis=1)
    return jnp.where((flat >= 0) & (flat < x.shape[1]), found, -1).reshape(index.shape)


def shared(source: jax.Array, text: jax.Array, length: jax.Array) -> jax.Array:
    """`(B, N)`, how many last tokens of `text`, 3 at most, end at each place of `source` `(B or 1, N)`."""
    last = taken(text, length[:, None] - 1 - np.arange(NGRAM))
    shared = jnp.zeros(source.shape, jnp.int32)
    for k in reversed(range(NGRAM)):
        earlier = jnp.pad(source, ((0, 0), (k, 0)), constant_values=-2)[:, : source.shape[1]]
        shared = (earlier == last[:, k : k + 1]) * (1 + shared)
    return shared


def best(score: jax.Array) -> tuple[jax.Array, jax.Array]:
    """`(B,)`, the last place of the largest score; and whether one is above zero."""
    places = score.shape[1]
    return jnp.argmax(score * places + np.arange(places), axis=1), score.max(axis=1) > 0
