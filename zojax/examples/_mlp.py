"""A multilayer perceptron in pure JAX: a tuple of `(weight, bias)` pairs and one function."""

import itertools
from collections.abc import Sequence

import jax
import jax.numpy as jnp


def init(key: jax.Array, sizes: Sequence[int]) -> tuple[dict, ...]:
    """A `{"weight": (n, m), "bias": (m,)}` for each pair of neighbours in `sizes`, such as `(64, 32, 10)`.

    Weights are normal of variance 2 / fan-in, biases zero, all float32.
    """
    pairs = list(itertools.pairwise(sizes))
    keys = jax.random.split(key, len(pairs))
    return tuple(
        {"weight": jax.random.normal(k, (n, m)) * (2 / n) ** 0.5, "bias": jnp.zeros(m)}
        for k, (n, m) in zip(keys, pairs, strict=True)
    )


def forward(params: Sequence[dict], x: jax.Array) -> jax.Array:
    """Logits `(..., m)` of `x` `(..., n)`: affine layers with ReLU between them."""
    *hidden, last = params
    for layer in hidden:
        x = jax.nn.relu(x @ layer["weight"] + layer["bias"])
    return x @ last["weight"] + last["bias"]
