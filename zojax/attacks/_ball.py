"""The set of allowed images: a ball of radius eps around an image, within [0, 1]."""

import jax
import jax.numpy as jnp

NORMS = ("linf", "l2")
LARGEST_RADIUS = 1e6  # a larger radius allows no more images, and its square may overflow


def radius(eps: float | jax.Array) -> jax.Array:
    """A traced float32: another value needs no other program."""
    return jnp.minimum(jnp.float32(eps), LARGEST_RADIUS)


def length(delta: jax.Array, norm: str) -> jax.Array:
    """The norm of one perturbation of any shape."""
    if norm == "linf":
        return jnp.max(jnp.abs(delta))
    return jnp.sqrt(jnp.sum(delta * delta))


def project(point: jax.Array, x: jax.Array, eps: jax.Array, norm: str) -> jax.Array:
    """The nearest image to `point` in the ball around `x`, clipped to [0, 1].

    The box contains x, so clipping never lengthens a perturbation: the result is in both sets.
    """
    if norm == "linf":
        return jnp.clip(point, jnp.maximum(x - eps, 0.0), jnp.minimum(x + eps, 1.0))
    delta = point - x
    # A millionth short of eps: a product rounded up would be outside.
    inside = jnp.minimum(1.0, eps * (1 - 1e-6) / jnp.maximum(length(delta, norm), 1e-30))
    return jnp.clip(x + inside * delta, 0.0, 1.0)


def steepest(gradient: jax.Array, norm: str) -> jax.Array:
    """The direction of unit norm with the steepest ascent; 0 where the gradient is 0."""
    if norm == "linf":
        return jnp.sign(gradient)
    return gradient / jnp.maximum(length(gradient, norm), 1e-30)


def height_width_channels(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """The shape of an image with an axis of channels, of size 1 for (height, width)."""
    if len(shape) not in (2, 3):
        raise ValueError(
            "x must have shape (batch, height, width) or (batch, height, width, channels), "
            f"got images of shape {shape}."
        )
    height, width, channels = (*shape, 1)[:3]
    return height, width, channels
