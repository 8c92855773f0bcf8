"""Arrays sharded alike on a mesh with automatic axes, where no type tells their shardings.

JAX has no function for it: the primitive of this file is lowered to a group of Shardy. It is lowered anew
each time, since weights of equal shapes would share one group otherwise.
"""

import itertools

import jax
from jax.extend.core import Primitive
from jax.extend.mlir.dialects import sdy
from jax.interpreters import ad, batching, mlir

_alike_p = Primitive("sharded_alike")
_alike_p.multiple_results = True


def sharded_alike(x: jax.Array, like: jax.Array) -> jax.Array:
    """x, sharded as an array of its shape: the compiler is free to shard both as it likes."""
    return _alike_p.bind(x, like)[0]


_alike_p.def_impl(lambda x, like: (x, like))
_alike_p.def_abstract_eval(lambda x, like: (x, like))
_numbers = itertools.count()


def _lower(ctx, x, like):
    number = next(_numbers)
    sdy.sharding_group(x, number)
    sdy.sharding_group(like, number)
    return x, like


mlir.register_lowering(_alike_p, _lower, cacheable=False)
ad.deflinear(_alike_p, lambda cts, x, like: tuple(cts))


def _batched(args, axes):
    size = next(x.shape[a] for x, a in zip(args, axes, strict=True) if a is not None)
    args = [batching.bdim_at_front(x, a, size) for x, a in zip(args, axes, strict=True)]
    return _alike_p.bind(*args), (0, 0)


batching.primitive_batchers[_alike_p] = _batched
