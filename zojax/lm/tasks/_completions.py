"""Prompts and completions: likelihood, generation, and scores of the generated text.

A batch has three arrays. All functions run inside `jit`.

- `tokens` `(B, T)`: prompts, padded on the right;
- `position` `(B,)`: of the last token of each prompt;
- `label` `(B, C)`: completions, padded with -1.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from zojax.lm._model import Model
from zojax.lm.tasks._task import Batch


def completion_nll(model: Model, params: dict, batch: Batch) -> jax.Array:
    """`(B, C)` negative log-likelihoods of the completions' tokens, zero at the padding."""
    label, size = batch["label"], batch["label"].shape[1]
    at = batch["position"][:, None] + jnp.arange(size)  # the position that predicts each token
    text = jnp.pad(batch["tokens"], ((0, 0), (0, size)))
    text = text.at[jnp.arange(len(label))[:, None], at + 1].set(jnp.maximum(label, 0))
    scores = jax.nn.log_softmax(model.forward(params, text, positions=at))
    found = jnp.take_along_axis(scores, jnp.maximum(label, 0)[..., None], axis=-1)[..., 0]
    return jnp.where(label >= 0, -found, 0)


def write(model: Model, params: dict, batch: Batch) -> jax.Array:
    """Greedy completions of the prompts, `(B, C)`; -1 from the stop token on."""
    size = batch["label"].shape[1]
    written = model.generate(params, batch["tokens"], batch["position"] + 1, size, stop=model.stop)
    return _until_stop(written, model.stop)


def f1(written: ArrayLike, label: ArrayLike, stop: int | None) -> jax.Array:
    """F1 of tokens: the harmonic mean of precision and recall, with repeated tokens counted.

    Args:
      written: `(B, C)` integers, padded with negative ones.
      label: the same.
      stop: the token that ends a completion and is not counted, or None.

    Returns:
      `(B,)` float32; 1 if both are empty.

    >>> print(f1(jnp.array([[5, 6, -1], [5, 6, 7]]), jnp.array([[6, -1, -1], [5, 6, 7]]), None))
    [0.6666667 1. ]
    """
    written = jnp.asarray(written)
    label = _until_stop(label, stop)
    same = written[:, :, None] == written[:, None, :]
    before = jnp.sum(jnp.tril(same, -1), axis=2)
    there = jnp.sum(written[:, :, None] == label[:, None, :], axis=2)
    shared = jnp.sum((written >= 0) & (before < there), axis=1)
    total = jnp.sum(written >= 0, axis=1) + jnp.sum(label >= 0, axis=1)
    return jnp.where(total == 0, 1.0, 2 * shared / jnp.maximum(total, 1)).astype(jnp.float32)


def exact(written: ArrayLike, label: ArrayLike, stop: int | None) -> jax.Array:
    """Exact match, `(B,)` float32: 1 if the two are equal. Arguments as for `f1`.

    >>> exact(jnp.array([[5, -1], [5, 6]]), jnp.array([[5, 2], [5, 2]]), 2).tolist()
    [1.0, 0.0]
    """
    return jnp.all(written == _until_stop(label, stop), axis=1).astype(jnp.float32)


def _until_stop(tokens: ArrayLike, stop: int | None) -> jax.Array:
    tokens = jnp.asarray(tokens)
    if stop is None:
        return tokens
    ended = jnp.cumsum(tokens == stop, axis=1) > 0
    return jnp.where(ended, -1, tokens)
