"""The set of allowed images: a ball of radius eps around an image, within [0, 1].

And the arithmetic of an image, in which no bit depends on how many images share a program: XLA sums in
another order, and contracts other products and sums, in another batch.
"""

import jax
import jax.numpy as jnp

from zojax import _barriers

NORMS = ("linf", "l2")


def length(delta: jax.Array, norm: str) -> jax.Array:
    """The norm of one perturbation of any shape."""
    if norm == "linf":
        return jnp.max(jnp.abs(delta))
    return jnp.sqrt(total(product(delta, delta).ravel()))


def total(values: jax.Array) -> jax.Array:
    """The sum over the leading axis: its second half is added to the first until one entry is left."""
    half = 1 << (len(values) - 1).bit_length()
    values = jnp.pad(values, [(0, half - len(values))] + [(0, 0)] * (values.ndim - 1))
    while half > 1:
        half //= 2
        values = values[:half] + values[half:]
    return values[0]


def product(a: jax.Array, b: jax.Array) -> jax.Array:
    """a * b, rounded before it enters a sum; b is an array of finite numbers.

    Instead of quotients, too: XLA multiplies by the inverse of what is broadcast, or does not.
    """
    return _barriers.rounded(a * b, jnp.ravel(b)[0])


def project(point: jax.Array, x: jax.Array, eps: jax.Array, norm: str) -> jax.Array:
    """The nearest image to `point` in the ball around `x`, then in the box.

    The box contains x, so clipping to it never lengthens a perturbation: the result is in both.
    """
    if norm == "linf":
        return jnp.clip(point, jnp.maximum(x - eps, 0.0), jnp.minimum(x + eps, 1.0))
    delta = point - x
    # A millionth short of eps: a product rounded up would be outside.
    inside = jnp.minimum(1.0, eps * (1 - 1e-6) / jnp.maximum(length(delta, norm), 1e-30))
    return jnp.clip(x + product(inside, delta), 0.0, 1.0)


def steepest(gradient: jax.Array, norm: str) -> jax.Array:
    """The steepest direction of unit norm: the sign, or the gradient over its length; 0 for 0."""
    if norm == "linf":
        return jnp.sign(gradient)
    return product(1 / jnp.maximum(length(gradient, norm), 1e-30), gradient)


def height_width_channels(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """The three numbers for images with or without a channel axis, or an error."""
    if len(shape) not in (2, 3):
        raise ValueError(
            "x must have shape (batch, height, width) or (batch, height, width, channels), "
            f"got images of shape {shape}."
        )
    return shape if len(shape) == 3 else (*shape, 1)
