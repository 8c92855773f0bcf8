"""Greedy generation with a Llama-shaped model inside ``jit``: one token at a time, keys and values kept.

Prompts of different lengths run together, padded on the right: every row reads its prompt token by token
and goes on with its own choices, so that a position is computed once and nothing is ever shifted.
"""

import jax
import jax.numpy as jnp

from zojax.examples.models import llama

__all__ = ["generate"]


def generate(config, params, tokens, lengths, new):
    """The most likely next token, again and again.

    Args:
      config: A ``zojax.examples.models.llama.Config``.
      params: As for ``llama.forward``.
      tokens: ``(B, T)`` integers, prompts padded on the right with any id.
      lengths: ``(B,)`` integers from 1 to T, of the prompts.
      new: How many tokens follow each prompt, a Python int.

    Returns:
      ``(B, new)`` int32.
    """
    batch, total = tokens.shape[0], tokens.shape[1] + new
    tokens = jnp.pad(jnp.asarray(tokens, jnp.int32), ((0, 0), (0, new)))
    layers, head = params["layers"], params.get("head", params["embed"])
    shape = (config.layers, batch, total, config.kv_heads, config.width // config.heads)
    cache = jnp.zeros(shape, params["embed"].dtype)
    angles = tuple(map(jnp.asarray, llama._angles(config, total)))

    def step(carry, t):
        tokens, cache = carry
        x = params["embed"][jax.lax.dynamic_slice_in_dim(tokens, t, 1, axis=1)]
        x, cache = _blocks(config, layers, x, cache, t, angles)
        choice = jnp.argmax(llama.readout(config, params["norm"], head, x)[:, 0], axis=-1)
        # Within a prompt the next token is known.
        known = jax.lax.dynamic_slice_in_dim(tokens, t + 1, 1, axis=1)[:, 0]
        following = jnp.where(t + 1 < lengths, known, choice.astype(jnp.int32))
        tokens = jax.lax.dynamic_update_slice_in_dim(tokens, following[:, None], t + 1, axis=1)
        return (tokens, cache), None

    (tokens, _), _ = jax.lax.scan(step, (tokens, (cache, cache)), jnp.arange(total - 1))
    at = jnp.asarray(lengths)[:, None] + jnp.arange(new)
    return jnp.take_along_axis(tokens, at, axis=1)


def _blocks(config, layers, x, cache, t, angles):
    """All layers at position t: ``(B, 1, D)`` and the cache, ``(L, B, T, kv_heads, size)`` twice."""

    def block(x, layer_and_cache):
        layer, keys, values = layer_and_cache
        y = llama._rms_norm(x, layer["attention_norm"], config) + layer.get("attention_shift", 0)
        mixed, keys, values = _attention(config, layer, y, keys, values, t, angles)
        x = x + mixed
        y = llama._rms_norm(x, layer["mlp_norm"], config) + layer.get("mlp_shift", 0)
        return x + llama._swiglu(layer, y), (keys, values)

    return jax.lax.scan(block, x, (layers, *cache))


def _attention(config, layer, x, keys, values, t, angles):
    """One query a row on what is cached, its own key and value included."""
    batch, _, width = x.shape
    size, groups = width // config.heads, config.heads // config.kv_heads
    here = [jax.lax.dynamic_slice_in_dim(a, t, 1) for a in angles]
    query, key, value = (llama._projected(layer, n, x) for n in ("query", "key", "value"))
    query = llama._rotate(query.reshape(batch, 1, config.kv_heads, groups, size), here)[:, 0]
    key = llama._rotate(key.reshape(batch, 1, config.kv_heads, 1, size), here)[:, :, :, 0]
    value = value.reshape(batch, 1, config.kv_heads, size)
    keys = jax.lax.dynamic_update_slice_in_dim(keys, key, t, axis=1)
    values = jax.lax.dynamic_update_slice_in_dim(values, value, t, axis=1)
    scores = jnp.einsum("bkgd,bskd->bkgs", query, keys, preferred_element_type=jnp.float32)
    scores = jnp.where(jnp.arange(keys.shape[1]) <= t, scores / size**0.5, -jnp.inf)
    weights = jax.nn.softmax(scores, axis=-1).astype(x.dtype)
    mixed = jnp.einsum("bkgs,bskd->bkgd", weights, values).reshape(batch, 1, width)
    return mixed @ layer["output"], keys, values
