"""Collectives and memory a device of a step on a mesh, by the compiler; nothing is run.

    python -m benchmarks.mesh                      eight host devices
    python -m benchmarks.mesh --topology v5e:2x4   eight TPUs, which need not be present (needs libtpu)

A Llama of 1.3 billion parameters in bfloat16, two directions at a time, each over four devices in tensor
parallel. A step is 16 dense or low-rank directions and plain SGD.
"""

import argparse
import os
import re
from functools import partial

GROUPS, SHARDS = 2, 4
DIRECTIONS, TOKENS = 16, (8, 512)
KINDS = "all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter"
OPERATION = rf"= \(?(\w+)\[([\d,]*)\][^=]* ({KINDS})(?:-start)?\("
COLUMNS = "step", "collectives", "largest, MB", "gathered, MB", "arguments, MB", "temporaries, MB"


def main(topology: str | None) -> None:
    flags = os.environ.get("XLA_FLAGS", "")
    os.environ["XLA_FLAGS"] = f"{flags} --xla_force_host_platform_device_count={GROUPS * SHARDS}"
    print("| " + " | ".join(COLUMNS) + " |", "|---|" + "---:|" * (len(COLUMNS) - 1), sep="\n")
    for name, step, arguments in steps(topology):
        compiled = step.lower(*arguments).compile()
        print(f"| {name} | " + " | ".join(described(compiled)) + " |", flush=True)


def steps(topology: str | None):
    """Names, programs and arguments."""
    import jax
    import jax.numpy as jnp
    import optax

    import zojax
    from benchmarks.models import next_token_loss
    from zojax.lm import llama

    mesh = mesh_of(topology)
    config = llama.Config(32000, 2048, 24, 32, 32, 5504)
    params = jax.tree_util.tree_map_with_path(
        partial(sharded, mesh), llama.shapes(config), is_leaf=lambda x: isinstance(x, tuple)
    )
    tokens = jax.ShapeDtypeStruct(TOKENS, jnp.int32, sharding=jax.NamedSharding(mesh, jax.P()))

    def loss(params, tokens):
        return next_token_loss(llama.forward(config, params, tokens), tokens)

    def step(direction, update):
        options = {"num_directions": DIRECTIONS, "axis_name": "pop", "update": update}
        tx = zojax.zo_sgd(1e-6, zojax.estimator(direction, batch_size=1, **options))

        def run(params, tokens):
            updates, _ = tx.update(None, tx.init(params), params, value_fn=loss, tokens=tokens)
            return optax.apply_updates(params, updates)

        return jax.jit(run, donate_argnums=0)

    yield "forward", jax.jit(loss), (params, tokens)
    for name in ("rademacher", "low_rank"):
        for update in ("scalars", "sliced"):
            direction = getattr(zojax.directions, name)()
            yield f"{name}, {update}", step(direction, update), (params, tokens)


def mesh_of(topology: str | None):
    import jax

    devices = jax.devices()
    if topology is not None:
        from jax.experimental import topologies

        from benchmarks.targets import TPU_VARIABLES, needed

        needed("libtpu")
        os.environ.update(TPU_VARIABLES)
        devices = topologies.get_topology_desc(platform="tpu", topology_name=topology).devices
    kinds = (jax.sharding.AxisType.Auto,) * 2
    return jax.make_mesh((GROUPS, SHARDS), ("pop", "model"), kinds, devices=devices)


def sharded(mesh, path, shape: tuple[int, ...]):
    """A leaf in tensor parallel: rows of what maps back to the residual stream, columns of the rest."""
    import jax
    import jax.numpy as jnp

    name, spec = path[-1].key, [None] * len(shape)
    if "norm" not in name:
        spec[-2 if name in ("embed", "output", "down") else -1] = "model"
    sharding = jax.NamedSharding(mesh, jax.P(*spec))
    return jax.ShapeDtypeStruct(shape, jnp.bfloat16, sharding=sharding)


def described(compiled) -> list[str]:
    """The cells of a row, all for one device. A collective in a loop counts once."""
    import numpy as np

    found = re.findall(OPERATION, compiled.as_text())
    size = {"bf16": 2, "u16": 2, "pred": 1, "u8": 1, "s8": 1}
    megabytes = [
        (name, size.get(dtype, 4) * np.prod([int(n) for n in shape.split(",") if n]) / 1e6)
        for dtype, shape, name in found
    ]
    memory = compiled.memory_analysis()
    gathered = sum(x for name, x in megabytes if name == "all-gather")
    return [
        str(len(found)),
        f"{max(x for _, x in megabytes):.1f}",
        f"{gathered:.1f}",
        f"{memory.argument_size_in_bytes / 1e6:.0f}",
        f"{memory.temp_size_in_bytes / 1e6:.0f}",
    ]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--topology", help="of TPUs, as v5e:2x4; host devices by default")
    main(parser.parse_args().topology)
