"""A convolutional network in pure JAX for grey images: two strided convolutions and an affine layer."""

import jax
import jax.numpy as jnp
from jax import lax


def init(
    key: jax.Array, size: int, classes: int = 10, widths: tuple[int, int] = (16, 32)
) -> dict[str, dict]:
    """Normal float32 weights of variance 2 / fan-in, zero biases; images have `size` x `size` pixels."""
    first, second, last = jax.random.split(key, 3)
    quarter = -(-size // 4)
    return {
        "first": _layer(first, (5, 5, 1, widths[0])),
        "second": _layer(second, (3, 3, *widths)),
        "last": _layer(last, (quarter * quarter * widths[1], classes)),
    }


def forward(params: dict[str, dict], x: jax.Array) -> jax.Array:
    """Logits `(n, classes)` of images `x` `(n, size, size)`."""
    x = _convolution(params["first"], x[..., None])
    x = _convolution(params["second"], x)
    return x.reshape(x.shape[0], -1) @ params["last"]["weight"] + params["last"]["bias"]


def _layer(key, shape):
    fan_in = jnp.prod(jnp.array(shape[:-1]))
    weight = jax.random.normal(key, shape) * (2 / fan_in) ** 0.5
    return {"weight": weight, "bias": jnp.zeros(shape[-1])}


def _convolution(layer, x):
    """Stride 2, same padding, then ReLU."""
    layout = "NHWC", "HWIO", "NHWC"
    x = lax.conv_general_dilated(x, layer["weight"], (2, 2), "SAME", dimension_numbers=layout)
    return jax.nn.relu(x + layer["bias"])
