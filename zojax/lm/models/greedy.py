"""Greedy generation inside `jit`: prompts in one pass, then token by token on cached keys and values.

Prompts of different lengths run together, padded on the right. New tokens go behind the longest prompt, at
the same place in every row. A mask hides the padding in between, and each row counts its own positions.
"""

from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

__all__ = ["generate"]


def generate(
    model: ModuleType,
    config: Any,
    params: dict,
    tokens: ArrayLike,
    lengths: ArrayLike,
    new: int,
) -> jax.Array:
    """Appends the most likely next token `new` times.

    Args:
      model: `zojax.lm.llama` or `zojax.lm.gpt`.
      params: as for `model.forward`.
      tokens: `(B, T)` integers, prompts padded on the right with any id.
      lengths: `(B,)` integers from 1 to T, of the prompts.
      new: tokens to generate, a Python int.

    Returns:
      `(B, new)` int32.
    """
    tokens, lengths = jnp.asarray(tokens), jnp.asarray(lengths)
    places = tokens.shape[1]
    slots = jnp.arange(places + new - 1)

    def following(x, positions):
        choice = jnp.argmax(model.logits(config, params, x, positions=positions), axis=-1)
        return choice.astype(jnp.int32)

    def step(carry, t):
        token, cache = carry
        seen = (slots < lengths[:, None]) | ((slots >= places) & (slots < places + t))
        options = dict(past=cache, start=lengths + t, seen=seen)
        x, own = model.extend(config, params, token[:, None], **options)
        cache = jax.tree.map(
            lambda a, b: jax.lax.dynamic_update_slice_in_dim(a, b, places + t, axis=2), cache, own
        )
        token = following(x, jnp.zeros_like(lengths))
        return (token, cache), token

    x, own = model.extend(config, params, tokens)
    first = following(x, lengths - 1)
    room = ((0, 0), (0, 0), (0, new - 1), (0, 0))
    cache = jax.tree.map(lambda a: jnp.pad(a, room), own)
    _, rest = jax.lax.scan(step, (first, cache), jnp.arange(new - 1))
    return jnp.concatenate([first[:, None], rest.T], axis=1)
