"""Linear maps and layer norms, by their names in a dict of parameters; and the error of a long text."""

import jax
import jax.numpy as jnp


def linear(layer: dict, name: str, x: jax.Array) -> jax.Array:
    """`x @ W`, with the adapters `_a` and `_b` of LoRA and the `_bias`, if there are any."""
    y, bias = x @ layer[name], layer.get(f"{name}_bias")
    if f"{name}_a" in layer:
        y = y + (x @ layer[f"{name}_a"]) @ layer[f"{name}_b"]
    return y if bias is None else y + bias


def layer_norm(layer: dict, name: str, x: jax.Array, epsilon: float) -> jax.Array:
    """Zero mean and unit variance, times the gain, plus `_bias`; in float32, and back."""
    y = x.astype(jnp.float32)
    y = y - jnp.mean(y, axis=-1, keepdims=True)
    y = y * jax.lax.rsqrt(jnp.mean(y * y, axis=-1, keepdims=True) + epsilon)
    return y.astype(x.dtype) * layer[name] + layer[f"{name}_bias"]


def too_long(most: int, taken: int) -> ValueError:
    """The error of a text with more tokens than the model has positions."""
    return ValueError(f"this model has {most} positions, the text may take {taken}; shorten it.")
