"""Shardings on a mesh with automatic axes, where no type tells them: of two arrays alike, or of none.

JAX has no function for it: the primitives of this file are lowered to operations of Shardy. A group is
lowered anew each time, since weights of equal shapes would share one group otherwise.
"""

import itertools

import jax
from jax.interpreters import ad, batching, mlir

from zojax._jaxpr import Primitive, identity

_alike_p = Primitive("sharded_alike")
_alike_p.multiple_results = True


def sharded_alike(x: jax.Array, like: jax.Array) -> jax.Array:
    """x, sharded as an array of its shape: the compiler is free to shard both as it likes."""
    return _alike_p.bind(x, like)[0]


_alike_p.def_impl(lambda x, like: (x, like))
_alike_p.def_abstract_eval(lambda x, like: (x, like))
_numbers = itertools.count()


def _lower(ctx, x, like):
    from jax.extend.mlir.dialects import sdy

    number = next(_numbers)
    sdy.sharding_group(x, number)
    sdy.sharding_group(like, number)
    return x, like


mlir.register_lowering(_alike_p, _lower, cacheable=False)
ad.deflinear(_alike_p, tuple)


def _batched(args, axes):
    size = next(x.shape[a] for x, a in zip(args, axes, strict=True) if a is not None)
    args = [batching.bdim_at_front(x, a, size) for x, a in zip(args, axes, strict=True)]
    return _alike_p.bind(*args), (0, 0)


batching.primitive_batchers[_alike_p] = _batched


_replicated_p = identity("replicated")


def replicated(x: jax.Array) -> jax.Array:
    """x, all of it on every device; without a mesh of its own, unlike `with_sharding_constraint`."""
    return _replicated_p.bind(x)


def _lower_replicated(ctx, x):
    from jax.extend.mlir.dialects import sdy

    if getattr(ctx.module_context.axis_context, "manual_axes", None):  # under `shard_map`
        return (x,)
    whole = sdy.DimensionShardingAttr.get([], is_closed=True)
    on_all = sdy.TensorShardingAttr.get(sdy.MeshAttr.get([]), [whole] * ctx.avals_out[0].ndim)
    return (sdy.sharding_constraint(x, on_all),)


mlir.register_lowering(_replicated_p, _lower_replicated)
