"""The covariance of an evolution strategy, whole or diagonal: two classes with the same methods."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from zojax.search.algorithms._root import symmetric_root


class Full(NamedTuple):
    """C and its symmetric root, for up to some 100 coordinates."""

    matrix: jax.Array  # C, (d, d)
    root: jax.Array  # C^(1/2), of this C or of one some generations ago

    @classmethod
    def identity(cls, d: int, dtype) -> "Full":
        return cls(jnp.eye(d, dtype=dtype), jnp.eye(d, dtype=dtype))

    @staticmethod
    def learning(d: int) -> float:
        """The factor of the learning rates."""
        del d
        return 1.0

    def stretch(self, z: jax.Array) -> jax.Array:
        """C^(1/2) z for z (..., d): samples of N(0, C) from standard normals."""
        return z @ self.root

    def squares(self, weights: jax.Array, y: jax.Array) -> jax.Array:
        """sum_i w_i y_i y_i' for y (n, d)."""
        return (weights[:, None] * y).T @ y

    def variances(self) -> jax.Array:
        return jnp.diagonal(self.matrix)

    def updated(self, keep, squares: jax.Array) -> "Full":
        """keep C + squares, with the old root."""
        return self._replace(matrix=keep * self.matrix + squares)

    def rooted(self) -> "Full":
        """The root of C."""
        return self._replace(root=symmetric_root(self.matrix))


class Diagonal(NamedTuple):
    """C = diag(s^2), which needs d numbers and learns d / 3 times as fast."""

    squared: jax.Array  # s^2, (d,)

    @classmethod
    def identity(cls, d: int, dtype) -> "Diagonal":
        return cls(jnp.ones(d, dtype))

    @staticmethod
    def learning(d: int) -> float:
        """The factor of the learning rates (Ros and Hansen, 2008)."""
        return (d + 2) / 3

    def stretch(self, z: jax.Array) -> jax.Array:
        return z * jnp.sqrt(self.squared)

    def squares(self, weights: jax.Array, y: jax.Array) -> jax.Array:
        return weights @ (y * y)

    def variances(self) -> jax.Array:
        return self.squared

    def updated(self, keep, squares: jax.Array) -> "Diagonal":
        moved = keep * self.squared + squares
        return self._replace(squared=jnp.maximum(moved, jnp.finfo(moved.dtype).tiny))

    def rooted(self) -> "Diagonal":
        return self
