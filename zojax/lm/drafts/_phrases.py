"""A pool of phrases: `(capacity, 1 + size)` int32, a token and those after it, newest last.

-1 stands for no token: at the end of a short phrase, and in front of an empty place.
"""

import jax
import jax.numpy as jnp
import numpy as np

from zojax._checks import require_count

PER_KEY = 20  # phrases with the same first token


def check(count: int, size: int, capacity: int) -> None:
    """Raises unless `count` phrases of a pool of `capacity`, `size` tokens each, can be tried at once."""
    require_count("size", size)
    if not 1 <= count <= capacity:
        raise ValueError(f"count must be from 1 to capacity, {capacity}, got {count}.")


def empty(capacity: int, size: int) -> jax.Array:
    """A pool without phrases."""
    return jnp.full((capacity, 1 + size), -1, jnp.int32)


def newest(phrases: jax.Array, key: jax.Array, count: int) -> jax.Array:
    """`(B, count, size)`, what follows `key` `(B,)` in the newest phrases."""
    is_found = phrases[:, 0] == key[:, None]
    age, places = jax.lax.top_k(is_found * np.arange(1, len(phrases) + 1), count)
    return jnp.where(age[..., None] > 0, phrases[places, 1:], -1)


def appended(
    phrases: jax.Array, new: jax.Array, gone: jax.Array | None = None, most: int = PER_KEY
) -> jax.Array:
    """The newest phrases after `new` `(N, 1 + size)`, without `gone` `(M, 1 + size)`.

    A repeated phrase moves to the end. The `most` newest ones of a first token stay.
    """
    if gone is not None:
        is_gone = jnp.any(_equal(phrases, gone), axis=1)
        phrases = jnp.where(is_gone[:, None], -1, phrases)
    capacity, count = len(phrases), len(new)
    whole = jnp.concatenate([phrases, new])
    later = np.arange(capacity + count)[:, None] < capacity + np.arange(count)
    is_repeated = jnp.any(later & _equal(whole, new), axis=1)
    whole = jnp.where(is_repeated[:, None], -1, whole)
    whole = jnp.where(_is_beyond(whole[:, 0], most)[:, None], -1, whole)
    order = jnp.argsort(whole[:, 0] >= 0, stable=True)
    return whole[order][count:]


def _equal(phrases: jax.Array, others: jax.Array) -> jax.Array:
    return (phrases[:, None] == others).all(axis=2)


def _is_beyond(keys: jax.Array, most: int) -> jax.Array:
    """Are there `most` later places with the same key?"""
    order = jnp.argsort(keys, stable=True)
    ranked = keys[order]
    later = jnp.searchsorted(ranked, ranked, side="right") - 1 - np.arange(len(keys))
    return jnp.zeros(len(keys), bool).at[order].set(later >= most)
