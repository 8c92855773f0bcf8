"""Functions that each device computes on its own shard of an array, without communication.

No type tells how an array lies on a mesh with automatic axes. An entry `x[0, 0]` is therefore a message
from one device to all others. Here the compiler, once it has chosen the shardings, asks for the program of
a shard. `jax.experimental.custom_partitioning` does the same, but needs the mesh during lowering.
"""

from collections.abc import Callable
from functools import cache

import jax
import numpy as np
from jax.interpreters import ad, batching, mlir

from zojax._jaxpr import Primitive


def scalar_of_shard(fun: Callable, name: str, otherwise: Callable) -> Callable:
    """`fun` from an array to a uint32 scalar, the same for all shards and all of a batch.

    Only on CPUs, XLA asks for the program of a shard. On other devices, a program for several has
    `otherwise` of the array.
    """

    def type_of(x):
        sharding = x.sharding.update(spec=jax.P())
        return x.update(shape=(), dtype=np.dtype(np.uint32), weak_type=False, sharding=sharding)

    return _primitive(fun, name, otherwise, type_of, lambda axis: None, keeps=False)


def same_of_shard(fun: Callable, name: str, otherwise: Callable) -> Callable:
    """`fun` from an array to the same array."""
    return _primitive(fun, name, otherwise, lambda x: x, lambda axis: axis, keeps=True)


def _primitive(fun, name, otherwise, type_of, axis_of_batch, keeps: bool) -> Callable:
    primitive, call = Primitive(name), f"zojax_{name}"
    whole, several = (mlir.lower_fun(f, multiple_results=False) for f in (fun, otherwise))

    def lower(ctx, x):
        if _is_alone(ctx.module_context) or not _is_registered(call, fun, keeps):
            return lower_otherwise(ctx, x)
        results = jax.ffi.ffi_lowering(call)(ctx, x)
        if keeps:
            results[0].owner.attributes["sdy.sharding_rule"] = _entry_by_entry(ctx.avals_in[0])
        return results

    def lower_otherwise(ctx, x):
        return (whole if _is_alone(ctx.module_context) else several)(ctx, x)

    def batch(xs, axes):
        return primitive.bind(*xs), axis_of_batch(*axes)

    primitive.def_impl(otherwise)
    primitive.def_abstract_eval(type_of)
    ad.defjvp(primitive, None)
    batching.primitive_batchers[primitive] = batch
    mlir.register_lowering(primitive, lower, platform="cpu")
    mlir.register_lowering(primitive, lower_otherwise)
    return primitive.bind


def _is_alone(module) -> bool:
    """Whether a program runs on one device, is that of each under `shard_map`, or is exported.

    An exported program runs where this file may be missing.
    """
    axes, manual = module.axis_context, getattr(module.axis_context, "manual_axes", None)
    if module.lowering_parameters.for_export:
        return True
    return axes.num_devices == 1 if manual is None else manual == set(axes.mesh.axis_names)


def _entry_by_entry(x):
    """A rule of Shardy: the result is sharded as the operand."""
    from jax.extend.mlir.dialects import sdy

    axes = [sdy.DimMappingAttr.get(factor_indices=[i]) for i in range(x.ndim)]
    tensor = [sdy.TensorMappingAttr.get(dim_mappings=axes)]
    return sdy.OpShardingRuleAttr.get(
        factor_sizes=list(x.shape), operand_mappings=tensor, result_mappings=tensor, is_custom=True
    )


@cache
def _is_registered(call: str, fun: Callable, keeps: bool) -> bool:
    """Tells XLA the program of a shard; the result is sharded as x, or on all devices.

    JAX has no public name for it. Where this one is missing, nothing is registered.
    """
    try:
        from jaxlib.xla_client import HloSharding, register_custom_call_partitioner
    except ImportError:
        return False

    def partition(shapes, shardings, shape, sharding, config):
        del shape, sharding, config
        local = shardings[0].tile(shapes[0])
        of_shard = jax.ShapeDtypeStruct(local.dimensions(), local.numpy_dtype())
        # The mesh that surrounds the whole program is none of the shard's.
        with jax.sharding.use_abstract_mesh(jax.sharding.AbstractMesh((), ())):
            program = mlir.module_to_bytecode(jax.jit(fun).lower(of_shard).compiler_ir())
        return program, shardings, result(shapes, shardings)

    def result(shapes, shardings, *_):
        return shardings[0] if keeps else HloSharding.replicate()

    register_custom_call_partitioner(
        name=call,
        prop_user_sharding=lambda sharding, *_: sharding,
        partition=partition,
        infer_sharding_from_operands=result,
        can_side_effecting_have_replicated_sharding=True,
    )
    return True
