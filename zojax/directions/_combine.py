"""sum_i c_i z_i for any direction: each z_i is made again and added."""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from zojax import noise as noises
from zojax._barriers import made_once, settle
from zojax._direction import CombineFn, DrawFn
from zojax._numerics import accumulator_dtype
from zojax._sharding import full_like, made_as, varying_like
from zojax._trees import PyTree, total_size

_AT_ONCE = 16  # directions in one iteration; more take longer to compile
# Entries of all terms together, up to which one kernel sums them: a loop would be many small kernels.
_SUMMED = {"gpu": 2**24}
_SMALL = 2**14  # entries of all directions together, up to which one kernel makes and stores them


def accumulate(draw: DrawFn) -> CombineFn:
    """The `combine` of any direction: draws each z_i again and adds c_i z_i to an accumulator.

    No array of size N x d exists. Up to 16 directions are added inside the reader of the sum, without
    an accumulator, and take no more memory than one direction. Beyond 16, each pass over the
    accumulator adds 16.

    Args:
      draw: of the `Direction`.

    Returns:
      `combine(frame, coefficients, like)`, for the `Direction`.

    >>> import jax, jax.numpy as jnp
    >>> from zojax import directions
    >>> like, signs = jax.ShapeDtypeStruct((2,), jnp.float32), directions.rademacher()
    >>> frame = signs.frame(jax.random.key(0), 3, like)
    >>> directions.accumulate(signs.draw)(frame, jnp.zeros(3), like)
    Array([0., 0.], dtype=float32)
    """
    return partial(_combined, draw)


def _combined(draw: DrawFn, frame: PyTree, coefficients: jax.Array, like: PyTree) -> PyTree:
    def entries(i):
        noise = draw(frame, i, like)
        return jax.tree.map(lambda leaf, z: None if z is None else _entries(z, leaf), like, noise)

    return jax.tree.map(_without_padding, like, _sum(entries, frame, coefficients))


def _sum(entries, frame: PyTree, coefficients: jax.Array) -> PyTree:
    def term(c, z):
        return jax.tree.map(lambda x: c.astype(x.dtype) * x, z)

    count = coefficients.shape[0]
    if count == 1:
        return term(coefficients[0], entries(0))

    shapes, numbers = jax.eval_shape(entries, 0), jnp.arange(count)
    size = count * total_size(shapes)
    if size <= _SUMMED.get(jax.default_backend(), 0):
        terms = jax.vmap(lambda c, i: term(c, entries(i)))(coefficients, numbers)
        return jax.tree.map(lambda x: jnp.sum(x, axis=0), terms)

    is_small = size <= _SMALL
    made = jax.vmap(lambda i: jax.tree.map(made_once, entries(i)))(numbers) if is_small else numbers

    def add(total, x):
        c, z = x
        return jax.tree.map(jnp.add, total, term(c, z if is_small else entries(z))), None

    zeros = jax.tree.map(
        lambda s: varying_like(full_like(s, 0, s.dtype), (frame, coefficients)),
        shapes,
    )
    return lax.scan(add, zeros, (coefficients, made), unroll=min(count, _AT_ONCE))[0]


def _entries(noise: noises.Noise, leaf) -> jax.Array:
    def dense(z):
        return z.dense().astype(accumulator_dtype(leaf.dtype))

    noise = noises.of_even_length(noise)
    return made_as(leaf.sharding, dense, noise) if noise.shape == leaf.shape else dense(noise)


def _without_padding(leaf, total):
    if total is None or total.shape == leaf.shape:
        return total
    return settle(total)[: leaf.shape[0]]
