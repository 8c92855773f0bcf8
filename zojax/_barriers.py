"""Barriers: keep a compiler from fusing, moving or repeating arithmetic, at next to no cost.

All but two, which give zeros, return their argument. XLA computes everything that depends on a seed alone
as early as it can. It repeats cheap arithmetic in each kernel that reads it, and contracts products and
sums as each kernel allows. These functions stop it where that would cost memory, or change a bit from one
program to the next.
"""

from collections.abc import Callable
from functools import partial, wraps
from typing import Any, ParamSpec

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental.layout import Layout, with_layout_constraint
from jax.interpreters import mlir

from zojax._jaxpr import identity
from zojax._on_shards import same_of_shard, scalar_of_shard
from zojax._sharding import is_sharded, varying_axes, varying_like


def _zero(array):
    if not array.size:  # it has no entry to wait for
        return jnp.uint32(0)
    # Two shifts by 16 bits: the compiler would fold one shift by 32 to a constant.
    # One axis at a time, the last first: for a single reshape XLA lays out the whole array again on a GPU.
    entry = array
    for axis in reversed(range(array.ndim)):
        entry = lax.squeeze(lax.slice_in_dim(entry, 0, 1, axis=axis), (axis,))
    if jnp.issubdtype(array.dtype, jnp.floating):
        entry = lax.bitcast_convert_type(entry.astype(jnp.float32), jnp.uint32)
    half = lax.shift_right_logical(lax.convert_element_type(entry, jnp.uint32), np.uint32(16))
    return lax.shift_right_logical(half, np.uint32(16))


def _zero_after(array):
    return lax.optimization_barrier((jnp.uint32(0), array))[0]


# Zero, as uint32, computed from an entry of the array; of a shard, and of a whole batch.
zero_from = scalar_of_shard(_zero, "zero_from", otherwise=_zero_after)
P = ParamSpec("P")


def _returns_first(run: Callable[P, jax.Array]) -> Callable[P, jax.Array]:
    """`run`, with the derivative of its first argument: JAX sees none through bits and loops."""
    found = jax.custom_jvp(run)
    found.defjvp(lambda primals, tangents: (found(*primals), tangents[0]))
    return found


@_returns_first
def waiting(x: jax.Array, array: jax.Array) -> jax.Array:
    """x, floating point, computed after `array`."""
    return _or_zero(x, zero_from(array))


def in_turn(x: jax.Array, array: jax.Array) -> jax.Array:
    """x, floating point, on a CPU computed after `array`.

    XLA's CPU backend computes at once all that is ready. Other backends order by memory.
    Under shard_map, an array that varies over more mesh axes than x would make x vary too. Then x does not
    wait.
    """
    if not varying_axes(array) <= varying_axes(x):
        return x
    return lax.platform_dependent(x, array, cpu=waiting, default=lambda x, _: x)


@_returns_first
def shared_in_turn(x: jax.Array, array: jax.Array) -> jax.Array:
    """`in_turn`, for an x that all members of a batch share; under `vmap` only."""
    return _if_shared(x, array)


@jax.custom_batching.custom_vmap
def _if_shared(x, array):
    del array
    return x


@_if_shared.def_vmap
def _(size, batched, x, array):
    del size
    waits = batched[1] and not batched[0]
    return in_turn(x, array) if waits else x, batched[0]


def _or_zero(x: jax.Array, zero: jax.Array) -> jax.Array:
    """x, its bits joined by an or with a zero that the compiler cannot derive.

    An exclusive or would cancel where it is done twice. LLVM turns a mask of a bool's sign into a
    choice, and adds through that.
    """
    bits = jnp.dtype(f"uint{jnp.finfo(x.dtype).bits}")
    zeros = lax.broadcast(lax.convert_element_type(zero, bits), x.shape)
    return lax.bitcast_convert_type(
        lax.bitwise_or(lax.bitcast_convert_type(x, bits), zeros), x.dtype
    )


@_returns_first
def settle(x: jax.Array) -> jax.Array:
    """The same numbers, none of them infinite, computed once: all readers see the same bits.

    XLA's CPU backend drops an optimization barrier, so a loop of one iteration stands in there.
    """
    return lax.platform_dependent(x, cpu=_settle, default=lax.optimization_barrier)


def settle_unless_cheap(x: jax.Array) -> jax.Array:
    """`settle`, for noise: a GPU makes noise again faster than it reads it, and with the same bits."""
    return lax.platform_dependent(x, cuda=lambda x: x, default=settle)


def _one_trip(x: jax.Array) -> jax.Array:
    # XLA can neither derive the trip count nor prove that the body changes nothing. The body writes one
    # entry, in place.
    origin, one = (0,) * x.ndim, (1,) * x.ndim

    def body(carry):
        done, y = carry
        first = jnp.where(done, 0, lax.slice(y, origin, one))
        return done | True, lax.dynamic_update_slice(y, first, origin)

    first = lax.reshape(lax.slice(x, origin, one), ())
    return lax.while_loop(lambda carry: ~carry[0], body, (jnp.isinf(first), x))[1]


_settle = same_of_shard(_one_trip, "settle", otherwise=lambda x: x)


def once(fun: Callable, x: jax.Array, *args: Any) -> Any:
    """`fun(x, *args)`, computed in one place: all readers see the same bits. `x` is floating point.

    XLA's CPU backend compiles a loop over a few numbers as one kernel, and its operations outside of a loop
    as a kernel each.
    """
    traced = jax.jit(fun)  # once for both platforms

    @jax.custom_jvp
    def run(x, *args):
        return lax.platform_dependent(
            x, *args, cpu=partial(_in_one_trip, traced), default=partial(_barred, traced)
        )

    run.defjvp(lambda primals, tangents: (run(*primals), jax.jvp(fun, primals, tangents)[1]))
    return run(x, *args)


def _barred(fun, *args):
    return lax.optimization_barrier(_varying(fun(*args), args))


def _varying(tree, like):
    return jax.tree.map(lambda y: varying_like(y, like), tree)


def _in_one_trip(fun, x, *args):
    if is_sharded(x):
        return _barred(fun, x, *args)

    def body(carry):
        # XLA would move arithmetic on x itself out of the loop.
        trips, _ = carry
        zeros = lax.broadcast(lax.convert_element_type(trips, x.dtype), x.shape)
        found = fun(lax.sub(x, zeros), *args)
        return lax.add(trips, np.uint32(1)), _varying(found, (x, args))

    shapes = jax.eval_shape(fun, x, *args)
    zeros = jax.tree.map(lambda s: np.zeros(s.shape, s.dtype), shapes)
    start = np.uint32(0), _varying(zeros, (x, args))
    return lax.while_loop(lambda carry: lax.eq(carry[0], zero_from(x)), body, start)[1]


@_returns_first
def rounded(x: jax.Array, finite: jax.Array) -> jax.Array:
    """The same array, each entry rounded to its dtype before any other arithmetic.

    Inside one kernel, compilers contract a product and its sum, or skip a rounding to bfloat16. An or
    with a zero keeps them apart, at no cost in memory and little in time. `finite` is finite, which the
    compiler cannot know.
    """
    return _or_zero(x, lax.bitwise_not(lax.is_finite(finite)))


@_returns_first
def stored_once(x: jax.Array, source: jax.Array) -> jax.Array:
    """x itself, as `made_once`, for arrays that are large or slow to compute; under `vmap` only.

    Two products read x: one over the whole batch, and one for each of its members. They view x differently,
    and XLA's CPU backend would compute and store it for each view. `source` exists before x; from any other
    array the compiler would see through the barrier.
    """
    return _if_batched(x, source)


@jax.custom_batching.custom_vmap
def _if_batched(x, source):
    return x


@_if_batched.def_vmap
def _(size, batched, x, source):
    # Without a batch, x takes the place of its input in memory, so a barrier would cost memory.
    if not batched[0]:
        return x, False
    source = source if batched[1] else jnp.broadcast_to(source, (size, *source.shape))
    return lax.platform_dependent(
        x, source, cpu=jax.vmap(_times_one), default=lambda x, source: x
    ), True


def _times_one(x, source):
    # On floats, since bits would be copied back to floats. A product, since the backend hands sums and
    # maxima of floats to a library that stores each step.
    one = jnp.where(zero_from(source) == 0, 1, 0).astype(x.dtype)
    beside = [(0, 0, 0)] * x.ndim + [(0, 1, 0)]
    pair = lax.pad(lax.expand_dims(x, (x.ndim,)), one, beside)
    return lax.reduce(pair, np.ones((), x.dtype), lax.mul, (x.ndim,))


def _on_tpu(fun: Callable[[jax.Array], jax.Array]) -> Callable[[jax.Array], jax.Array]:
    """The identity, which a TPU computes as `fun`."""
    primitive = identity(fun.__name__)
    mlir.register_lowering(primitive, lambda ctx, x: (x,))
    lowered = mlir.lower_fun(fun, multiple_results=False)
    mlir.register_lowering(primitive, lowered, platform="tpu")
    return wraps(fun)(lambda x: primitive.bind(x))


@_on_tpu
def row_major(x: jax.Array) -> jax.Array:
    """x, stored row by row on a TPU: the output of a product with a perturbed matrix, in a loop.

    There XLA writes an output as its reader likes it, and then also reads the matrix in another order. It
    holds a copy in that order of the matrices of all layers.
    """
    return with_layout_constraint(x, Layout(tuple(range(x.ndim))))


@_on_tpu
def written(x: jax.Array) -> jax.Array:
    """x, stored in its own dtype on a TPU: an operand of a product with a perturbed matrix.

    There noise and matrix fill the product's kernel, and XLA stores what x is computed from, in float32.
    """
    return lax.optimization_barrier(x)


@_on_tpu
def no_zero(zero: jax.Array) -> jax.Array:
    """A number from `zero_from`; on a TPU a constant, which nothing waits for."""
    return jnp.zeros_like(zero)


def zero_of_point(scale: jax.Array) -> jax.Array:
    """`zero_from` a number of this point; on one TPU, zero.

    There the points of a direction are written out one after the other, and XLA need not hold a lookup
    through a loop. Lookups of one table at two points took a step of SmolLM2 from 1.04 to 2.77 forwards.
    """
    zero = zero_from(scale)
    return zero if jax.device_count() > 1 else no_zero(zero)


def made_once(x: jax.Array) -> jax.Array:
    """x itself, computed once for all its readers; unlike `settle`, without a loop.

    XLA does not fuse a sum, here with zero, into every reader. The noise of a vector would otherwise be
    made again for each row of activations. It is a sum of bits: XLA's CPU backend hands sums of floats,
    and everything around them, to a library that stores each step.
    """
    bits = lax.bitcast_convert_type(x, jnp.dtype(f"uint{8 * x.dtype.itemsize}"))
    zero, beside = np.zeros((), bits.dtype), [(0, 0, 0)] * x.ndim + [(0, 1, 0)]
    pair = lax.pad(lax.expand_dims(bits, (x.ndim,)), zero, beside)
    total = lax.reduce(pair, zero, lax.add, (x.ndim,))
    return lax.bitcast_convert_type(total, x.dtype)
