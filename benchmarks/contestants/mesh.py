"""Collectives and memory of one device for a step on a mesh, by the compiler; nothing is run.

A Llama of 1.3 billion parameters, and 16 directions in a step of plain SGD. The work says how they lie on
the devices. On CPUs in float32, as XLA widens all weights there, and on 8 x 512 tokens; elsewhere in
bfloat16 on 32 x 512, since the activations of fewer fit the fast memory of a TPU, which is not counted.
"""

import re
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import zojax
from benchmarks.contestants import naive, once
from benchmarks.models import next_token_loss
from zojax.lm import llama

CONFIG = llama.Config(32000, 2048, 24, 32, 32, 5504)
TINY = llama.Config(256, 64, 2, 8, 8, 128)
DIRECTIONS = 16
# The axes of the mesh with the share of the devices; the axis of the batch; that of the directions.
LAYOUTS: dict[str, tuple[dict[str, int], str | None, str | None]] = {
    "tensor parallel": ({"model": 1}, None, None),
    "FSDP": ({"model": 1}, "model", None),
    "two groups, tensor parallel": ({"pop": 2, "model": 1}, None, "pop"),
}
ROWS = ("embed", "output", "down")  # map back to the residual stream, so their rows are sharded
OPERATION = re.compile(
    r"= \(?(\w+)\[([\d,]*)\][^=]* "
    r"(all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter)(?:-start)?\("
)
UNOPTIMIZED = {"xla_backend_optimization_level": 0}  # machine code, which nobody runs
SIZES = {"bf16": 2, "u16": 2, "pred": 1, "u8": 1, "s8": 1}


def build(work, devices, direction: str = "", update: str = "scalars"):
    axes, batch, pop = LAYOUTS[work.layout]
    is_cpu = devices[0].platform == "cpu"
    config, tokens = (TINY, (8, 16)) if work.tiny else (CONFIG, (8 if is_cpu else 32, 512))
    if update == "sliced" and pop is None:
        raise ValueError("slices need groups of devices.")
    mesh = mesh_of(axes, devices)
    dtype = jnp.float32 if is_cpu else jnp.bfloat16
    params = jax.tree_util.tree_map_with_path(
        partial(sharded, mesh, dtype), llama.shapes(config), is_leaf=lambda x: isinstance(x, tuple)
    )
    tokens = jax.ShapeDtypeStruct(tokens, jnp.int32, sharding=jax.NamedSharding(mesh, jax.P(batch)))

    def loss(params, tokens):
        return next_token_loss(llama.forward(config, params, tokens), tokens)

    def by_hand(params, tokens):
        hand = naive.one_by_one(DIRECTIONS, naive.central(loss, 1e-3))
        return hand.step(hand.start(params), tokens)[0]

    def step(params, tokens):
        updates, _ = tx.update(None, tx.init(params), params, value_fn=loss, tokens=tokens)
        return optax.apply_updates(params, updates)

    if direction and direction != "by hand":
        options: Any = {"num_directions": DIRECTIONS, "batch_size": 1}
        options |= {"axis_name": pop, "update": update} if pop else {}
        made = getattr(zojax.directions, direction)()
        tx = zojax.zo_sgd(1e-6, zojax.estimator(made, **options))
    run = by_hand if direction == "by hand" else step
    program = jax.jit(run, donate_argnums=0) if direction else jax.jit(loss)
    compiled = UNOPTIMIZED if is_cpu else None
    return once(lambda: described(program.lower(params, tokens).compile(compiled)))


def mesh_of(axes: dict[str, int], devices) -> jax.sharding.Mesh:
    """All devices: axes of a given size, the last one of the rest."""
    *sizes, _ = axes.values()
    shape = (*sizes, len(devices) // int(np.prod(sizes)))
    kinds = (jax.sharding.AxisType.Auto,) * len(shape)
    return jax.make_mesh(shape, tuple(axes), kinds, devices=devices)


def sharded(mesh, dtype, path, shape: tuple[int, ...]) -> jax.ShapeDtypeStruct:
    """A leaf of the model; norms lie whole on every device."""
    name, spec = path[-1].key, [None] * len(shape)
    if "norm" not in name:
        spec[-2 if name in ROWS else -1] = "model"
    return jax.ShapeDtypeStruct(shape, dtype, sharding=jax.NamedSharding(mesh, jax.P(*spec)))


def described(compiled) -> dict[str, int]:
    """Counts and bytes of one device. A collective in a loop counts once."""
    moved = [
        (kind, SIZES.get(dtype, 4) * int(np.prod([int(n) for n in shape.split(",") if n])))
        for dtype, shape, kind in OPERATION.findall(compiled.as_text())
    ]
    memory = compiled.memory_analysis()
    return {
        "collectives": len(moved),
        "tiny": sum(size <= 1024 for _, size in moved),
        "largest": max((size for _, size in moved), default=0),
        "gathered": sum(size for kind, size in moved if kind == "all-gather"),
        "arguments": memory.argument_size_in_bytes,
        "temporaries": memory.temp_size_in_bytes,
    }
