"""Attention of new tokens on earlier keys and values; all models share it.

Two things stand in front of the new tokens' own keys and values: a trained prefix (Li and Liang,
"Prefix-Tuning", https://arxiv.org/abs/2101.00190), then `past`, the cache of a generation. Place p of the
cache belongs to position p of the text.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike


class Places(NamedTuple):
    """Positions of new tokens and of all keys, counted from the prefix on.

    Attributes:
      new: `(T,)` or `(B, T)`, of the new tokens.
      keys: `(S,)` or `(B, S)`, of prefix, past and new tokens.
      visible: `(T, S)` or `(B, T, S)` bools: does a new token see a key?
      bound: an int above all of them.
    """

    new: Any
    keys: Any
    visible: Any
    bound: int

    def within(self, window: int | None) -> Any:
        """`visible`, restricted to the last `window` tokens, the new one included; None for all."""
        if window is None:
            return self.visible
        distance = self.new[..., :, None] - self.keys[..., None, :]
        return self.visible & (distance < window)


def places_of(
    layers: dict, past: Any, start: ArrayLike | None, new: int, tree: np.ndarray | None = None
) -> Places:
    """The `Places` of `new` tokens.

    Args:
      layers: a model's layers; a prefix in them stands before the text.
      past: keys and values `(L, B, P, K)`, or None.
      start: the position of the first new token in the text, an integer or `(B,)`; the past is filled up to
        there. None: right after the past.
      tree: `(T, T)` bools, which new tokens a new token sees, itself included. None: all up to itself.
    """
    prefix = layers["prefix_key"].shape[1] if "prefix_key" in layers else 0
    before = prefix + (0 if past is None else jax.tree.leaves(past)[0].shape[2])
    among = np.tri(new, dtype=bool) if tree is None else tree
    old, depth = np.arange(before), among.sum(axis=1) - 1
    if start is None:
        after = before + depth
        visible = np.concatenate([np.ones((new, before), bool), among], axis=1)
        return Places(after, np.concatenate([old, after]), visible, before + new)
    first = prefix + jnp.asarray(start)[..., None]
    own = first + depth
    filled = jnp.broadcast_to((old < first)[..., None, :], (*own.shape, before))
    seen = jnp.concatenate([filled, jnp.broadcast_to(among, (*own.shape, new))], axis=-1)
    keys = jnp.concatenate([jnp.broadcast_to(old, (*own.shape[:-1], before)), own], axis=-1)
    return Places(own, keys, seen, before + new)


def through_layers(
    block: Callable[..., tuple[jax.Array, Any]],
    x: jax.Array,
    layers: dict,
    past: Any,
    kinds: Any = None,
) -> tuple[jax.Array, Any]:
    """A scan of `block(x, layer, past, kind) -> (x, own)` over stacked layers.

    A step reads its layer of `past` `(L, B, P, K)` by an index. As an operand of the scan, `past` would be
    transposed in each pass under `vmap`, which puts members in front of layers.

    `layers["upper"]` are the last layers, of `zojax.lm.partition(..., last=)`: a scan of their own, with
    their own part of `past`. So all members share the others while they read the same tokens.
    """
    if "upper" in layers:
        lower, upper = {n: a for n, a in layers.items() if n != "upper"}, layers["upper"]
        past_lower, past_upper = (None, None) if past is None else past
        depth = len(jax.tree.leaves(lower)[0])
        of_lower, of_upper = (None, None) if kinds is None else (kinds[:depth], kinds[depth:])
        x, first = through_layers(block, x, lower, past_lower, of_lower)
        x, second = through_layers(block, x, upper, past_upper, of_upper)
        return x, (first, second)

    def step(x, of_layer):
        layer, i, kind = of_layer
        here = jax.tree.map(lambda a: jax.lax.dynamic_index_in_dim(a, i, keepdims=False), past)
        return block(x, layer, here, kind)

    depth = len(jax.tree.leaves(layers)[0])
    return jax.lax.scan(step, x, (layers, np.arange(depth), kinds))


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
    query: jax.Array,
    keys: jax.Array,
    values: jax.Array,
    visible: Any,
    divisor: float | None = None,
    cap: float | None = None,
) -> jax.Array:
    """Softmax attention of the new tokens on the visible places.

    Args:
      query: `(B, T, K, G, size)`: G heads share each of the K heads of keys and values.
      keys, values: `(B, S, K, size)`.
      visible: `(T, S)` or `(B, T, S)` bools.
      divisor: of the scores; None: the root of `size`.
      cap: scores s become `cap * tanh(s / cap)`; None leaves them.

    Returns:
      `(B, T, K * G * size)` in the dtype of `values`.
    """
    rows, new, *_, size = query.shape
    scores = jnp.einsum("btkgd,bskd->bkgts", query, keys, preferred_element_type=jnp.float32)
    scores = scores / (size**0.5 if divisor is None else divisor)
    if cap is not None:
        scores = cap * jnp.tanh(scores / cap)
    if np.ndim(visible) == 3:  # of each row, for all heads
        visible = visible[:, None, None]
    scores = jnp.where(visible, scores, -jnp.inf)
    weights = jax.nn.softmax(scores, axis=-1).astype(values.dtype)
    return jnp.einsum("bkgts,bskd->btkgd", weights, values).reshape(rows, new, -1)


def read(x: jax.Array, positions: ArrayLike | None) -> jax.Array:
    """The positions `(B,)` or `(B, C)` of each row of `x` `(B, T, D)`; None for all."""
    if positions is None:
        return x
    rows = np.arange(x.shape[0]).reshape(-1, *[1] * (np.ndim(positions) - 1))
    return x[rows, positions]
