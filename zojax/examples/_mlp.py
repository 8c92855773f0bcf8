"""A multilayer perceptron in pure JAX: a tuple of `(weight, bias)` pairs and one function."""

import itertools
from collections.abc import Sequence

import jax
import jax.numpy as jnp


def init(key: jax.Array, sizes: Sequence[int]) -> tuple[dict, ...]:
    """Random float32 parameters: normal weights of variance 2 / fan-in, zero biases.

    Args:
      key: a JAX key.
      sizes: layer widths from input to output, for example `(64, 32, 10)`.

    Returns:
      A tuple of `{"weight": (n, m), "bias": (m,)}`, one for each pair of neighbouring `sizes`.
    """
    pairs = list(itertools.pairwise(sizes))
    keys = jax.random.split(key, len(pairs))
    return tuple(
        {"weight": jax.random.normal(k, (n, m)) * (2 / n) ** 0.5, "bias": jnp.zeros(m)}
        for k, (n, m) in zip(keys, pairs, strict=True)
    )


def forward(params: Sequence[dict], x: jax.Array) -> jax.Array:
    """Logits of `x`: affine layers with ReLU between them.

    Args:
      params: a tuple as from `init`.
      x: `(..., n)` floats.

    Returns:
      `(..., m)` logits, in the dtype of the operands.
    """
    *hidden, last = params
    for layer in hidden:
        x = jax.nn.relu(x @ layer["weight"] + layer["bias"])
    return x @ last["weight"] + last["bias"]
