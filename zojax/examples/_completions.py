"""Prompts and completions: how likely a completion is, and how near to it is what the model writes.

A batch is `tokens` `(B, T)`, prompts padded on the right; `position` `(B,)`, of their last tokens;
and `label` `(B, C)`, completions, filled up with -1. Everything runs inside `jit`.
"""

import jax
import jax.numpy as jnp

__all__ = ["exact", "f1", "nll", "write"]


def nll(model, params, batch):
    """`(B, C)` negative log-likelihoods of the completions' tokens, zero where there is none."""
    label, size = batch["label"], batch["label"].shape[1]
    at = batch["position"][:, None] + jnp.arange(size)  # where each of them is predicted
    text = jnp.pad(batch["tokens"], ((0, 0), (0, size)))
    text = text.at[jnp.arange(len(label))[:, None], at + 1].set(jnp.maximum(label, 0))
    scores = jax.nn.log_softmax(model.forward(params, text, positions=at))
    found = jnp.take_along_axis(scores, jnp.maximum(label, 0)[..., None], axis=-1)[..., 0]
    return jnp.where(label >= 0, -found, 0)


def write(model, params, batch):
    """What the model writes after the prompts: `(B, C)`, -1 from its stop on."""
    size = batch["label"].shape[1]
    written = model.generate(params, batch["tokens"], batch["position"] + 1, size)
    return _until_stop(written, model.stop)


def f1(written, label, stop):
    """Harmonic mean of precision and recall over tokens, each counted as often as it occurs.

    Args:
      written: `(B, C)` integers, negative where there is nothing.
      label: the same.
      stop: the token that ends a completion and is not counted, or None.

    Returns:
      `(B,)` float32; 1 where both are empty.
    """
    label = _until_stop(label, stop)
    same = written[:, :, None] == written[:, None, :]
    before = jnp.sum(jnp.tril(same, -1), axis=2)
    there = jnp.sum(written[:, :, None] == label[:, None, :], axis=2)
    shared = jnp.sum((written >= 0) & (before < there), axis=1)
    total = jnp.sum(written >= 0, axis=1) + jnp.sum(label >= 0, axis=1)
    return jnp.where(total == 0, 1.0, 2 * shared / jnp.maximum(total, 1)).astype(jnp.float32)


def exact(written, label, stop):
    """`(B,)` float32: 1 where the two are equal; arguments as for `f1`."""
    return jnp.all(written == _until_stop(label, stop), axis=1).astype(jnp.float32)


def _until_stop(tokens, stop):
    if stop is None:
        return tokens
    ended = jnp.cumsum(tokens == stop, axis=1) > 0
    return jnp.where(ended, -1, tokens)
