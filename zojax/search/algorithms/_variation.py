"""Crossover and mutation of encoded points, for coordinates of every kind."""

import jax
import jax.numpy as jnp

from zojax.search.algorithms._toolkit import bounds_of, span_of
from zojax.search.spaces import ORDERED, UNORDERED, Space

CROSSING, MUTATION = 5, 10  # the exponents of the distributions; larger ones stay nearer
DRAWS = 4  # uniform numbers per coordinate


def cross(space: Space, u: jax.Array, a: jax.Array, b: jax.Array) -> jax.Array:
    """A child (..., d) of two parents: simulated binary crossover within the bounds.

    Half of the coordinates are those of `a`. A coordinate without order takes the one of `b` instead.
    u (2, ..., d) is uniform.
    """
    low, high = bounds_of(space)
    below, above = jnp.minimum(a, b), jnp.maximum(a, b)
    gap = above - below
    is_lower = u[0] < 0.25
    room = jnp.where(is_lower, below - low, high - above) / jnp.where(gap > 0, gap, 1)
    mass = u[1] * (2 - (1 + 2 * room) ** (-CROSSING - 1.0))
    spread = jnp.where(mass <= 1, mass, 1 / jnp.maximum(2 - mass, 1e-6)) ** (1 / (CROSSING + 1))
    child = (a + b + jnp.where(is_lower, -spread, spread) * gap) / 2
    child = jnp.where(jnp.asarray(space.kinds == UNORDERED), b, child)
    return jnp.where((u[0] < 0.5) & (gap > 0), child, a)


def mutate(space: Space, u: jax.Array, x: jax.Array) -> jax.Array:
    """x (..., d) with one coordinate in d changed, on average.

    Polynomial mutation within the bounds. A coordinate with an order moves by 1 or more, and one without
    takes another value. u (2, ..., d) is uniform.
    """
    low, high = bounds_of(space)
    span, power = span_of(space), MUTATION + 1.0
    falls = u[1] < 0.5
    near = jnp.where(falls, x - low, high - x) / span
    mass = jnp.where(falls, 2 * u[1], 2 - 2 * u[1])
    size = 1 - (mass + (1 - mass) * (1 - near) ** power) ** (1 / power)
    size = jnp.where(jnp.asarray(space.kinds == ORDERED), jnp.maximum(size * span, 1), size * span)
    moved = jnp.where(falls, x - size, x + size)
    back = jnp.where(falls, x + 1, x - 1)  # from a bound
    moved = jnp.where((moved < low - 0.5) | (moved > high + 0.5), back, moved)
    other = x + 1 + jnp.floor(u[1] * (high - low))
    other = jnp.where(other > high, other - (high - low + 1), other)
    moved = jnp.where(jnp.asarray(space.kinds == UNORDERED), other, moved)
    return jnp.where(u[0] * space.dimension < 1, moved, x)
