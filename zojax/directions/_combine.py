"""sum_i c_i z_i: the plain way, one direction after another, for any direction that can be drawn."""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from zojax import noise as noises
from zojax._barriers import settle
from zojax._numerics import accumulator_dtype
from zojax._sharding import varying_like
from zojax._trees import PyTree, total_size

_AT_ONCE = 16  # a loop's body is as much longer to compile
# Entries of all terms together up to which they are summed in one kernel: where a loop is many small ones.
_SUMMED = {"gpu": 2**24}


def accumulate(draw):
    """A `combine` that regenerates every direction and adds it to an accumulator.

    Nothing of size N x d exists. Up to 16 directions are added within what reads their sum, and no
    accumulator exists either: a step with as many takes no more memory than with one. Of more, 16 are
    added in one pass over it.
    """
    return partial(_combined, draw)


def _combined(draw, frame: PyTree, coefficients: jax.Array, like: PyTree) -> PyTree:
    def term(i):
        noise = draw(frame, i, like)
        return jax.tree.map(
            lambda leaf, z: None if z is None else _scaled(coefficients[i], z, leaf.dtype),
            like,
            noise,
        )

    return jax.tree.map(_without_padding, like, _sum(term, frame, coefficients))


def _sum(term, frame: PyTree, coefficients: jax.Array) -> PyTree:
    count = coefficients.shape[0]
    if count == 1:
        return term(0)

    shapes = jax.eval_shape(term, 0)
    if count * total_size(shapes) <= _SUMMED.get(jax.default_backend(), 0):
        terms = jax.vmap(term)(jnp.arange(count))
        return jax.tree.map(lambda x: jnp.sum(x, axis=0), terms)

    def add(total, i):
        return jax.tree.map(jnp.add, total, term(i)), None

    zeros = jax.tree.map(
        lambda s: varying_like(jnp.zeros(s.shape, s.dtype), (frame, coefficients)), shapes
    )
    return lax.scan(add, zeros, jnp.arange(count), unroll=min(count, _AT_ONCE))[0]


def _scaled(coefficient: jax.Array, noise, dtype) -> jax.Array:
    dtype = accumulator_dtype(dtype)
    return coefficient.astype(dtype) * noises.of_even_length(noise).dense().astype(dtype)


def _without_padding(leaf, total):
    if total is None or total.shape == leaf.shape:
        return total
    return settle(total)[: leaf.shape[0]]
