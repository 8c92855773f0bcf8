"""The contract of noise: one leaf of one direction."""

from typing import Protocol, runtime_checkable

import jax

from zojax.noise._factored import Factored


class Noise(Protocol):
    """The entries of one leaf of a direction z. A noise object must be a pytree.

    >>> import jax, jax.numpy as jnp, zojax
    >>> from dataclasses import dataclass, field
    >>> @jax.tree_util.register_dataclass
    ... @dataclass(frozen=True)
    ... class EqualRows:
    ...     row: jax.Array
    ...     count: int = field(metadata={"static": True})
    ...     @property
    ...     def shape(self):
    ...         return (self.count, *self.row.shape)
    ...     def dense(self):
    ...         return jnp.broadcast_to(self.row, self.shape)
    >>> z = EqualRows(jnp.array([1.0, -1.0]), 3)
    >>> zojax.implicit.evaluate(lambda w: w[0], jnp.zeros((3, 2)), z, 0.5)
    Array([ 0.5, -0.5], dtype=float32)
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the leaf."""
        ...

    def dense(self) -> jax.Array:
        """All entries: float32, or another real floating dtype."""
        ...


@runtime_checkable
class StructuredNoise(Noise, Protocol):
    """Noise in two factors, which `zojax.implicit` keeps implicit through views and products."""

    def factored(self) -> Factored:
        """The two factors and their join; equal to `dense()` entry by entry."""
        ...
