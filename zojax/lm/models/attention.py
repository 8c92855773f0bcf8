"""Attention of new tokens on what was seen before them, the part that Llama and GPT shapes share.

What came before is given as keys and values: the cache of a generation, `past`, or a prefix that is
trained like a weight (Li and Liang, "Prefix-Tuning", https://arxiv.org/abs/2101.00190). Both stand in
front of the new tokens' own.
"""

import jax
import jax.numpy as jnp
import numpy as np

__all__ = ["attend", "positions_of", "prefix_length", "read", "with_past"]


def prefix_length(layers):
    """How many positions the prefix of stacked layers takes: 0 where there is none."""
    return layers["prefix_key"].shape[1] if "prefix_key" in layers else 0


def with_past(layer, name, own, past):
    """`(B, S, K)`: the layer's prefix, the past and the new tokens' own keys (or values).

    Args:
      layer: a dict of one layer's parameters.
      name: `"key"` or `"value"`.
      own: `(B, T, K)`.
      past: `(B, P, K)`, or None.
    """
    parts = [] if past is None else [past]
    if f"prefix_{name}" in layer:
        prefix = layer[f"prefix_{name}"]
        parts = [jnp.broadcast_to(prefix, (own.shape[0], *prefix.shape)), *parts]
    return jnp.concatenate([*parts, own], axis=1) if parts else own


def attend(query, keys, values, seen=None):
    """Softmax attention: causal among the new tokens, which are last; on all before them by default.

    Args:
      query: `(B, T, K, G, size)`: G query heads share each of the K heads of keys and values.
      keys: `(B, S, K, size)`, S >= T.
      values: `(B, S, K, size)`.
      seen: `(B, P)` bools: which of the P places right before the new tokens hold something; None
        means all.

    Returns:
      `(B, T, K * G * size)`, in the dtype of `values`.
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


def read(x, positions):
    """Positions of each row, `(B,)` or `(B, C)` integers, of `(B, T, D)`; None means all."""
    if positions is None:
        return x
    rows = np.arange(x.shape[0]).reshape(-1, *[1] * (positions.ndim - 1))
    return x[rows, positions]


def positions_of(layers, past, start, new):
    """Positions of `new` tokens, `(T,)` or `(B, T)`, and a bound on them.

    A prefix stands before position 0 of the text and moves all by its length. `start` is that of the
    first new token in the text, an integer or `(B,)`; None means right after the past.
    """
    before = 0 if past is None else past[0].shape[2]
    shift, steps = prefix_length(layers), np.arange(new)
    bound = shift + before + new
    if start is None:
        return shift + before + steps, bound
    return shift + jnp.asarray(start)[..., None] + steps, bound
