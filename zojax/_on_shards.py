"""Functions that each device computes on its own shard of an array, without communication.

No type tells how an array lies on a mesh with automatic axes. An entry `x[0, 0]` is therefore a message from
one device to all others. Here the compiler, once it has chosen the shardings, asks for the program of a
shard. `jax.experimental.custom_partitioning` does the same, but needs the mesh during lowering.
"""

from collections.abc import Callable
from functools import partial

import jax
import numpy as np
from jax._src import xla_bridge
from jax._src.custom_partitioning_sharding_rule import (
    sdy_sharding_rule_to_mlir,
    str_to_sdy_sharding_rule,
)
from jax._src.lib import xla_client
from jax._src.sharding_impls import SPMDAxisContext
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir


def scalar_of_shard(fun: Callable, name: str, on_tpus: Callable) -> Callable:
    """`fun` from an array to a uint32 scalar that is the same for all shards and batches.

    XLA asks for no program of a shard on TPUs: a program for several is `on_tpus`, of the whole array.
    """

    def type_of(x):
        sharding = x.sharding.update(spec=jax.P())
        return x.update(shape=(), dtype=np.dtype(np.uint32), weak_type=False, sharding=sharding)

    return _primitive(fun, name, on_tpus, type_of, lambda axis: None, lambda rank: None)


def same_of_shard(fun: Callable, name: str, on_tpus: Callable) -> Callable:
    """`fun` from an array to the same array."""

    def rule(rank):
        axes = " ".join(f"axis{i}" for i in range(rank))
        return str_to_sdy_sharding_rule(f"{axes} -> {axes}")

    return _primitive(fun, name, on_tpus, lambda x: x, lambda axis: axis, rule)


def _primitive(fun, name, on_tpus, type_of, axis_of_batch, rule) -> Callable:
    primitive, call = Primitive(name), f"zojax_{name}"
    primitive.def_impl(on_tpus)
    primitive.def_abstract_eval(type_of)
    ad.defjvp(primitive, None)
    batching.primitive_batchers[primitive] = lambda xs, axes: (
        primitive.bind(*xs),
        axis_of_batch(*axes),
    )
    whole = mlir.lower_fun(fun, multiple_results=False)
    instead = mlir.lower_fun(on_tpus, multiple_results=False)

    def lowered(ctx, x, by_shards=True):
        module = ctx.module_context
        # An exported program runs where this file may be missing.
        if _is_alone(module.axis_context) or module.lowering_parameters.for_export:
            return whole(ctx, x)
        if not by_shards:
            return instead(ctx, x)
        results = jax.ffi.ffi_lowering(call)(ctx, x)
        sharding = rule(ctx.avals_in[0].ndim)
        if sharding is not None:
            types = [x.type]
            found = sdy_sharding_rule_to_mlir(sharding, types, types)
            results[0].owner.attributes["sdy.sharding_rule"] = found
        return results

    mlir.register_lowering(primitive, lowered)
    mlir.register_lowering(primitive, partial(lowered, by_shards=False), platform="tpu")
    _register(call, fun, keeps=rule(1) is not None)
    return primitive.bind


def _is_alone(axes) -> bool:
    """Whether a program runs on one device, or is that of each device under `shard_map`."""
    if isinstance(axes, SPMDAxisContext):
        return axes.manual_axes == frozenset(axes.mesh.axis_names)
    return axes.num_devices == 1


def _register(call: str, fun: Callable, keeps: bool) -> None:
    """Tells XLA, and its plugins, the program of a shard; the result is sharded as x, or on all devices."""

    def partition(shapes, shardings, shape, sharding, config):
        del shape, sharding, config
        local = shardings[0].tile(shapes[0])
        of_shard = jax.ShapeDtypeStruct(local.dimensions(), local.numpy_dtype())
        program = mlir.module_to_bytecode(jax.jit(fun).lower(of_shard).compiler_ir())
        return program, shardings, result(shapes, shardings)

    def result(shapes, shardings, *_):
        return shardings[0] if keeps else xla_client.HloSharding.replicate()

    register = partial(
        xla_client.register_custom_call_partitioner,
        name=call,
        prop_user_sharding=lambda sharding, *_: sharding,
        partition=partition,
        infer_sharding_from_operands=result,
        can_side_effecting_have_replicated_sharding=True,
    )
    register()
    xla_bridge.register_plugin_callbacks(register)
