"""MeZO's Table 22 for the OPT family: memory of one step at batch 1 x 400 tokens, by the compiler.

    python -m benchmarks.memory --table22 here
    python -m benchmarks.memory --table22 h100

Forward, `zojax.mezo`'s step and backpropagation with Adam, in bfloat16, compiled from shapes alone: no
weights exist. Peak = temporaries + arguments + outputs - aliased. The published rows (Malladi et al.,
2023) were measured on A100s with the transformers library.

"h100" compiles ahead of time, on any machine, in an environment of its own with `jax-cuda12-plugin`,
`jax-cuda12-pjrt` and `nvidia-cuda-nvcc-cu12` of jaxlib's version. "here" is what JAX runs on. A CPU
answers another question: that backend multiplies in float32 and keeps a float32 copy of bfloat16 weights.
"""

import math
import os

import jax
import jax.numpy as jnp
import optax
from jax.experimental import topologies
from jax.sharding import SingleDeviceSharding

import zojax
from benchmarks.measure import peak_bytes, save
from benchmarks.models import next_token_loss
from zojax.examples.models import gpt

# name: (layers, width, heads), then published GB of inference and MeZO, and of full fine-tuning
OPT = {
    "1.3B": ((24, 2048, 32), 4, 27),
    "2.7B": ((32, 2560, 32), 7, 55),
    "6.7B": ((32, 4096, 32), 14, 156),
    "13B": ((40, 5120, 40), 26, 316),
    "30B": ((48, 7168, 56), 58, 633),
    "66B": ((64, 9216, 72), 128, None),
}


def config(layers: int, width: int, heads: int) -> gpt.Config:
    """An OPT shape."""
    return gpt.Config(50272, width, layers, heads, 4 * width, 2050, "relu", first_position=2)


# What XLA's compiler needs to know of an H100 SXM with 80 GB.
H100 = """
gpu_device_info {
  threads_per_block_limit: 1024 threads_per_warp: 32 core_count: 132 fpus_per_core: 128
  shared_memory_per_block: 49152 shared_memory_per_core: 233472
  shared_memory_per_block_optin: 232448 threads_per_core_limit: 2048
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  memory_bandwidth: 3352320000000 l2_cache_size: 52428800 clock_rate_ghz: 1.98
  device_memory_size: 84978434048 cuda_compute_capability { major: 9 minor: 0 }
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 10 }
device_description_str: "NVIDIA H100 80GB HBM3"
"""


def h100() -> SingleDeviceSharding:
    """An H100 that is not there, to compile for; call it before JAX looks for devices."""
    import nvidia.cuda_nvcc

    os.environ["JAX_SKIP_CUDA_CONSTRAINTS_CHECK"] = "1"
    os.environ["XLA_FLAGS"] = f"--xla_gpu_cuda_data_dir={list(nvidia.cuda_nvcc.__path__)[0]}"
    jax.config.update("jax_platforms", "cpu")
    topology = topologies.get_topology_desc(
        platform="cuda", topology_name="h100", target_config=H100, topology="1x1x1"
    )
    return SingleDeviceSharding(topology.devices[0])


def programs(c: gpt.Config, sharding) -> dict:
    """The three, lowered."""
    params = jax.tree.map(
        lambda s: jax.ShapeDtypeStruct(s, jnp.bfloat16, sharding=sharding),
        gpt.shapes(c),
        is_leaf=lambda s: isinstance(s, tuple),
    )
    tokens = jax.ShapeDtypeStruct((1, 400), jnp.int32, sharding=sharding)

    def loss(params, tokens):
        return next_token_loss(gpt.forward(c, params, tokens), tokens)

    def mezo(params, state, tokens):
        updates, state = tx.update(None, state, params, value_fn=loss, tokens=tokens)
        return optax.apply_updates(params, updates), state

    def backward(params, state, tokens):
        grads = jax.grad(loss)(params, tokens)
        updates, state = adam.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    tx, adam = zojax.mezo(1e-6, 1e-3), optax.adam(1e-5)
    steps = {"zojax.mezo": (mezo, tx), "jax.grad + adam": (backward, adam)}
    lowered = {"forward": jax.jit(loss).lower(params, tokens)}
    for name, (step, optimizer) in steps.items():
        state = jax.eval_shape(optimizer.init, params)
        lowered[name] = jax.jit(step, donate_argnums=(0, 1)).lower(params, state, tokens)
    return lowered


def measure(size: str, sharding=None) -> dict:
    shape, mezo, full = OPT[size]
    lowered = programs(config(*shape), sharding)
    peaks = {name: peak_bytes(program.compile()) for name, program in lowered.items()}
    shapes = gpt.shapes(config(*shape))
    leaves = jax.tree.leaves(shapes, is_leaf=lambda s: isinstance(s, tuple))
    parameters = sum(math.prod(s) for s in leaves)
    return {
        "OPT": size,
        "parameters, 10^9": parameters / 1e9,
        **{f"{name}, GB": peak / 1e9 for name, peak in peaks.items()},
        "mezo / forward": peaks["zojax.mezo"] / peaks["forward"],
        "published inference = MeZO, GB": mezo,
        "published full fine-tuning, GB": full,
    }


def main(device: str) -> None:
    """Prints and saves the table for "h100", or for "here", the device that JAX uses."""
    sharding = h100() if device == "h100" else None
    rows = [measure(size, sharding) for size in OPT]
    save("table22", rows, None if device == "here" else device)
