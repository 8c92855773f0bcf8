"""MeZO's Table 22 for the OPT family: memory of one step at batch 1 x 400 tokens.

    python -m benchmarks.memory --table22 here
    python -m benchmarks.memory --table22 h100
    python -m benchmarks.memory --table22 here --only 13B     printed, and not saved

Forward, `zojax.mezo`'s step and backpropagation with Adam, in bfloat16. On a GPU that is here, shapes up to
30B are run, with random weights: the peak is what the device counted, and a step has a time. Each program
has a process of its own, and so a peak of its own. Elsewhere they are compiled from shapes alone, and no
weights exist: peak = temporaries + arguments + outputs - aliased. The published rows (Malladi et al., 2023)
were measured on A100s with the transformers library.

"h100" compiles ahead of time, on any machine, in an environment of its own with `jax-cuda12-plugin`,
`jax-cuda12-pjrt` and `nvidia-cuda-nvcc-cu12` of jaxlib's version. "here" is what JAX runs on. A CPU
answers another question: that backend multiplies in float32 and keeps a float32 copy of bfloat16 weights.
"""

import json
import math
import os
import statistics
import subprocess
import sys
from importlib import metadata

import jax
import jax.numpy as jnp
import optax
from jax.experimental import topologies
from jax.sharding import SingleDeviceSharding

import zojax
from benchmarks.measure import ROOT, markdown, matching, peak_bytes, save, timed
from benchmarks.models import next_token_loss
from zojax.lm import gpt

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


def needed(package: str) -> None:
    """Ends with its name where a package is missing."""
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        raise SystemExit(f"{package} is not installed.") from None


def h100() -> SingleDeviceSharding:
    """An H100 that is not there, to compile for; call it before JAX looks for devices."""
    for name in ("jax-cuda12-plugin", "jax-cuda12-pjrt", "nvidia-cuda-nvcc-cu12"):
        needed(name)
    import nvidia.cuda_nvcc

    os.environ["JAX_SKIP_CUDA_CONSTRAINTS_CHECK"] = "1"
    os.environ["XLA_FLAGS"] = f"--xla_gpu_cuda_data_dir={list(nvidia.cuda_nvcc.__path__)[0]}"
    jax.config.update("jax_platforms", "cpu")
    topology = topologies.get_topology_desc(
        platform="cuda", topology_name="h100", target_config=H100, topology="1x1x1"
    )
    return SingleDeviceSharding(topology.devices[0])


def optimizers() -> dict:
    """Not made on import: JAX may be told first what to compile for."""
    return {"zojax.mezo": zojax.mezo(1e-6, 1e-3), "jax.grad + adam": optax.adam(1e-5)}


def programs(c: gpt.Config, sharding=None) -> dict:
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

    tx, adam = optimizers().values()
    lowered = {"forward": jax.jit(loss).lower(params, tokens)}
    for (name, optimizer), step in zip(optimizers().items(), (mezo, backward), strict=True):
        state = jax.eval_shape(optimizer.init, params)
        lowered[name] = jax.jit(step, donate_argnums=(0, 1)).lower(params, state, tokens)
    return lowered


def parameters(c: gpt.Config) -> int:
    leaves = jax.tree.leaves(gpt.shapes(c), is_leaf=lambda s: isinstance(s, tuple))
    return sum(math.prod(s) for s in leaves)


def measure(size: str, sharding=None) -> dict:
    """A row, by the compiler."""
    shape, mezo, full = OPT[size]
    lowered = programs(config(*shape), sharding)
    peaks = {name: peak_bytes(program.compile()) for name, program in lowered.items()}
    return {
        "OPT": size,
        "parameters, 10^9": parameters(config(*shape)) / 1e9,
        **{f"{name}, GB": peak / 1e9 for name, peak in peaks.items()},
        "mezo / forward": peaks["zojax.mezo"] / peaks["forward"],
        "published inference = MeZO, GB": mezo,
        "published full fine-tuning, GB": full,
    }


# --- run for real -------------------------------------------------------------------------------------


def weights(c: gpt.Config):
    """Random, in bfloat16, leaf by leaf in one kernel each: nothing beside them is ever held."""
    shapes, direction = gpt.shapes(c), zojax.directions.normal()
    is_shape = {"is_leaf": lambda s: isinstance(s, tuple)}
    like = jax.tree.map(lambda s: jax.ShapeDtypeStruct(s, jnp.float32), shapes, **is_shape)
    noise = direction.draw(direction.frame(jax.random.key(0), 1, like), 0, like)
    make = jax.jit(lambda z: (0.02 * z.dense()).astype(jnp.bfloat16))
    return jax.tree.map(lambda _, z: make(z), like, noise)


def run(layers: int, width: int, heads: int, name: str, steps: int = 5) -> dict:
    """Seconds of a step, and the device's own peak in bytes, if it has one."""
    c, device = config(layers, width, heads), jax.devices()[0]
    limit = (device.memory_stats() or {}).get("bytes_limit", math.inf)
    copies = 3 if name == "jax.grad + adam" else 1  # of the parameters, moments included
    if 2 * copies * parameters(c) > limit:
        return {"failed": "does not fit"}
    program = programs(c)[name].compile()  # before there are weights, beside what it tries out
    tokens = jax.random.randint(jax.random.key(1), (1, 400), 0, c.vocabulary, jnp.int32)
    carry, optimizer = (weights(c),), optimizers().get(name)
    if optimizer is not None:
        carry = (*carry, jax.jit(optimizer.init)(*carry))

    def step():
        nonlocal carry
        out = program(*carry, tokens)
        carry = carry if optimizer is None else out
        return out

    timed(step)
    seconds = statistics.median(timed(step) for _ in range(steps))
    return {"seconds": seconds, "peak": (device.memory_stats() or {}).get("peak_bytes_in_use")}


def in_process(shape: tuple, name: str) -> dict:
    """`run` in a process of its own, which may have nearly all of the device."""
    variables = os.environ | {"XLA_PYTHON_CLIENT_PREALLOCATE": "true"}
    variables |= {"XLA_PYTHON_CLIENT_MEM_FRACTION": "0.93"}
    command = [sys.executable, "-m", "benchmarks.table22", *map(str, shape), name]
    done = subprocess.run(
        command, cwd=ROOT, env=variables, capture_output=True, text=True, check=False
    )
    if not done.returncode:
        return json.loads(done.stdout.splitlines()[-1])
    if "RESOURCE_EXHAUSTED" in done.stderr:
        return {"failed": "does not fit"}
    return {"failed": (done.stderr.strip().splitlines() or [f"ended with {done.returncode}"])[-1]}


def measure_run(size: str) -> dict:
    """A row, run for real; what failed says why where its peak would be."""
    shape, mezo, full = OPT[size]
    runs = {name: in_process(shape, name) for name in ("forward", *optimizers())}
    row = {"OPT": size, "parameters, 10^9": parameters(config(*shape)) / 1e9}
    for name, found in runs.items():
        peak = found.get("peak")
        row[f"{name}, GB"] = peak / 1e9 if peak else found.get("failed", "not told")
        row[f"{name}, s"] = found.get("seconds", "")
    peaks = [runs[name].get("peak") for name in ("zojax.mezo", "forward")]
    return row | {
        "mezo / forward": peaks[0] / peaks[1] if all(peaks) else "",
        "published inference = MeZO, GB": mezo,
        "published full fine-tuning, GB": full,
    }


def main(device: str, only: str | None = None) -> None:
    """Prints and saves the table for "h100", or for "here", the device that JAX uses."""
    # This process looks at the device, and must not hold what those that run need.
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    sharding = h100() if device == "h100" else None
    if device == "here" and jax.default_backend() == "gpu":
        sizes = matching({size: None for size in OPT if size != "66B"}, only)
        rows = [measure_run(size) for size in sizes]
    else:
        rows = [measure(size, sharding) for size in matching(OPT, only)]
    if only:
        print(markdown(rows))
    else:
        save("table22", rows, None if device == "here" else device)


if __name__ == "__main__":
    print(json.dumps(run(*map(int, sys.argv[1:4]), sys.argv[4])))
