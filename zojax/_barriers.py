"""What keeps a compiler from fusing, moving or repeating arithmetic, and costs next to nothing.

All but `zero_from` return their argument. XLA computes what depends on nothing but a seed as early as it
can, repeats cheap arithmetic in each kernel that reads it, and contracts products and sums as each kernel
allows. Where that would cost memory, or change a bit from one program to the next, it is told otherwise.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from zojax._sharding import is_sharded


def zero_from(array: jax.Array) -> jax.Array:
    """Zero, as uint32, computed from an entry of the array: shifted out in two halves.

    A shift by 32 at once would be folded to a constant. A plain zero for an array that is sharded by its
    type, of which one entry is on one device alone.
    """
    if is_sharded(array):
        return np.uint32(0)
    # Axis by axis, the last first: for a reshape of all at once XLA lays out the array itself on a GPU.
    entry = array
    for axis in reversed(range(array.ndim)):
        entry = lax.squeeze(lax.slice_in_dim(entry, 0, 1, axis=axis), (axis,))
    if jnp.issubdtype(array.dtype, jnp.floating):
        entry = lax.bitcast_convert_type(entry.astype(jnp.float32), jnp.uint32)
    return (entry.astype(jnp.uint32) >> np.uint32(16)) >> np.uint32(16)


def waiting(x: jax.Array, array: jax.Array) -> jax.Array:
    """x, floating point, which is not there before `array` is."""
    return _or_zero(x, zero_from(array))


def _or_zero(x: jax.Array, zero: jax.Array) -> jax.Array:
    """x, its bits joined by an or with a zero that the compiler cannot know to be one.

    Not an exclusive or, which cancels where it is done twice, nor a mask of a bool's sign, which LLVM turns
    into a choice and adds through.
    """
    bits = jnp.dtype(f"uint{jnp.finfo(x.dtype).bits}")
    return lax.bitcast_convert_type(lax.bitcast_convert_type(x, bits) | zero.astype(bits), x.dtype)


@jax.custom_jvp
def settle(x: jax.Array) -> jax.Array:
    """The same numbers, none infinite, computed once: all readers see the same bits.

    XLA repeats cheap arithmetic in each kernel that reads it, and contracts products and sums as each
    kernel allows. Where its CPU backend would drop a barrier, a loop of one trip stands in.
    """
    return lax.platform_dependent(x, cpu=_one_trip, default=lax.optimization_barrier)


def settle_unless_cheap(x: jax.Array) -> jax.Array:
    """`settle`, for noise: a GPU makes it again in less time than it reads it, and to the same bits."""
    return lax.platform_dependent(x, cuda=lambda x: x, default=settle)


def _one_trip(x):
    if is_sharded(x):
        return lax.optimization_barrier(x)
    # A trip count that XLA cannot derive, and a body that it cannot prove to change nothing. It writes one
    # entry, in place.
    origin, one = (0,) * x.ndim, (1,) * x.ndim

    def body(carry):
        done, y = carry
        first = jnp.where(done, 0, lax.slice(y, origin, one))
        return done | True, lax.dynamic_update_slice(y, first, origin)

    first = lax.reshape(lax.slice(x, origin, one), ())
    return lax.while_loop(lambda carry: ~carry[0], body, (jnp.isinf(first), x))[1]


@jax.custom_jvp
def rounded(x: jax.Array, finite: jax.Array) -> jax.Array:
    """The same array, each entry rounded to its dtype before anything is done with it.

    Compilers contract a product and the sum that it enters, or skip a rounding to bfloat16, where
    they meet in one kernel. An or with a zero, which the compiler cannot know to be one as it cannot
    know that `finite` is, keeps them apart at no cost in memory and little in time.
    """
    return _or_zero(x, ~jnp.isfinite(finite))


@jax.custom_jvp
def stored_once(x: jax.Array, source: jax.Array) -> jax.Array:
    """x itself, as `made_once`, for arrays that are large or take long to compute; under `vmap` only.

    Two products that read x, one over all that is batched and one for each, have different views of it, and
    XLA's CPU backend would compute and store it for each view. The one comes from `source`, an array that
    exists before x, or else the compiler saw through it.
    """
    return _if_batched(x, source)


@jax.custom_batching.custom_vmap
def _if_batched(x, source):
    return x


@_if_batched.def_vmap
def _(size, batched, x, source):
    # Not where it is not batched: written in place of what it is computed from, it costs no memory.
    if not batched[0]:
        return x, False
    source = source if batched[1] else jnp.broadcast_to(source, (size, *source.shape))
    return lax.platform_dependent(
        x, source, cpu=jax.vmap(_times_one), default=lambda x, source: x
    ), True


def _times_one(x, source):
    # Of floats, since bits would have to be copied into floats again; a product, since the backend
    # hands sums and maxima of floats to a library that stores each step.
    one = jnp.where(zero_from(source) == 0, 1, 0).astype(x.dtype)
    beside = [(0, 0, 0)] * x.ndim + [(0, 1, 0)]
    pair = lax.pad(lax.expand_dims(x, (x.ndim,)), one, beside)
    return lax.reduce(pair, np.ones((), x.dtype), lax.mul, (x.ndim,))


# All are the identity to a derivative, which the bits and the loop would hide.
settle.defjvp(lambda primals, tangents: (settle(*primals), tangents[0]))
stored_once.defjvp(lambda primals, tangents: (stored_once(*primals), tangents[0]))
rounded.defjvp(lambda primals, tangents: (rounded(*primals), tangents[0]))


def made_once(x: jax.Array) -> jax.Array:
    """x itself, not computed again by each of its readers; unlike `settle`, without a loop.

    A sum, here with zero, is what XLA does not fuse into all that read it; the noise of a vector would be
    made again for every row of activations that it is added to. Bits are summed, not floats: XLA's CPU
    backend hands sums of floats, and all that is around them, to a library that stores each step.
    """
    bits = lax.bitcast_convert_type(x, jnp.dtype(f"uint{8 * x.dtype.itemsize}"))
    pair = lax.broadcast_in_dim(bits, (*x.shape, 2), tuple(range(x.ndim)))
    first = lax.broadcasted_iota(jnp.uint32, pair.shape, x.ndim) == 0
    total = lax.reduce(jnp.where(first, pair, 0), np.zeros((), bits.dtype), lax.add, (x.ndim,))
    return lax.bitcast_convert_type(total, x.dtype)
