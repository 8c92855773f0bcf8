"""Attention of new tokens on earlier keys and values; Llama and GPT shapes share it.

Two things stand in front of the new tokens' own keys and values: a trained prefix (Li and Liang,
"Prefix-Tuning", https://arxiv.org/abs/2101.00190), then `past`, the cache of a generation.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike


def with_past(layer: dict, own: tuple, past: tuple | None, heads: int) -> list[jax.Array]:
    """Keys and values `(B, S, heads, size)`: the layer's prefix, the past `(B, P, K)`, own `(B, T, K)`."""
    found = []
    for i, (name, new) in enumerate(zip(("prefix_key", "prefix_value"), own, strict=True)):
        parts = [new] if past is None else [past[i], new]
        if name in layer:
            prefix = layer[name]
            parts = [jnp.broadcast_to(prefix, (new.shape[0], *prefix.shape)), *parts]
        whole = jnp.concatenate(parts, axis=1) if len(parts) > 1 else new
        found.append(whole.reshape(*whole.shape[:2], heads, -1))
    return found


def attend(
    query: jax.Array, keys: jax.Array, values: jax.Array, seen: jax.Array | None = None
) -> jax.Array:
    """Softmax attention of the new tokens, the last ones: causal among them, on all earlier places.

    G heads of `query` `(B, T, K, G, size)` share each of the K heads of keys and values
    `(B, S, K, size)`, S >= T. `seen` `(B, P)` marks the filled ones of the P places right before the new
    tokens. The result is `(B, T, K * G * size)` in the dtype of `values`.
    """
    (rows, new, *_, size), places = query.shape, keys.shape[1]
    scores = jnp.einsum("btkgd,bskd->bkgts", query, keys, preferred_element_type=jnp.float32)
    visible = np.tri(new, places, places - new, dtype=bool)
    if seen is not None:
        first = places - new - seen.shape[1]
        seen = jnp.pad(seen, ((0, 0), (first, new)), constant_values=True)
        visible = visible & seen[:, None, None, None]
    scores = jnp.where(visible, scores / size**0.5, -jnp.inf)
    weights = jax.nn.softmax(scores, axis=-1).astype(values.dtype)
    return jnp.einsum("bkgts,bskd->btkgd", weights, values).reshape(rows, new, -1)


def read(x: jax.Array, positions: ArrayLike | None) -> jax.Array:
    """The positions `(B,)` or `(B, C)` of each row of `x` `(B, T, D)`; None for all."""
    if positions is None:
        return x
    rows = np.arange(x.shape[0]).reshape(-1, *[1] * (np.ndim(positions) - 1))
    return x[rows, positions]


def positions_of(layers: dict, past: Any, start: ArrayLike | None, new: int) -> tuple[Any, int]:
    """Positions of `new` tokens, `(T,)` or `(B, T)`, and a bound on them.

    `start` is the position of the first new token in the text, an integer or `(B,)`; None for right after
    the past. A prefix stands before the text, so its length is added.
    """
    before, steps = 0 if past is None else past[0].shape[2], np.arange(new)
    shift = layers["prefix_key"].shape[1] if "prefix_key" in layers else 0
    bound = shift + before + new
    if start is None:
        return shift + before + steps, bound
    return shift + jnp.asarray(start)[..., None] + steps, bound
