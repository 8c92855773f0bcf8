"""The set of allowed images: a ball of radius eps around an image, within [0, 1]."""

import jax
import jax.numpy as jnp

NORMS = ("linf", "l2")


def length(delta: jax.Array, norm: str) -> jax.Array:
    """The norm of one perturbation of any shape."""
    if norm == "linf":
        return jnp.max(jnp.abs(delta))
    return jnp.sqrt(jnp.sum(delta * delta))


def project(point: jax.Array, x: jax.Array, eps: jax.Array, norm: str) -> jax.Array:
    """The nearest image to `point` in the ball around `x`, then in the box.

    The box contains x, so clipping to it never lengthens a perturbation: the result is in both.
    """
    if norm == "linf":
        return jnp.clip(point, jnp.maximum(x - eps, 0.0), jnp.minimum(x + eps, 1.0))
    delta = point - x
    # A millionth short of eps: a product rounded up would be outside.
    inside = jnp.minimum(1.0, eps * (1 - 1e-6) / jnp.maximum(length(delta, norm), 1e-30))
    return jnp.clip(x + inside * delta, 0.0, 1.0)


def steepest(gradient: jax.Array, norm: str) -> jax.Array:
    """The steepest direction of unit norm: the sign, or the gradient over its length; 0 for 0."""
    if norm == "linf":
        return jnp.sign(gradient)
    return gradient / jnp.maximum(length(gradient, norm), 1e-30)


def height_width_channels(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """The three numbers for images with or without a channel axis, or an error."""
    if len(shape) not in (2, 3):
        raise ValueError(
            "x must have shape (batch, height, width) or (batch, height, width, channels), "
            f"got images of shape {shape}."
        )
    return shape if len(shape) == 3 else (*shape, 1)
