"""Devices that need not be present: the compiler answers for the real chip, and nothing is run.

    python -m pip install ".[bench]" "jax[tpu]"
    python -m benchmarks accelerators --device cpu --target tpu-v5e

"h100" needs jax-cuda12-plugin, jax-cuda12-pjrt and nvidia-cuda-nvcc-cu12 of jaxlib's version.
"""

import os
from importlib import metadata

import jax
from jax.experimental import topologies

# Without all of these libtpu asks a metadata server about the machine.
TPU_VARIABLES = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_WORKER_ID": "0",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # contestants are processes of their own
}
# An H100 SXM with 80 GB, for XLA's compiler.
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
    """Raises ModuleNotFoundError if the package is missing."""
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        raise ModuleNotFoundError(f"{package} is not installed.", name=package) from None


def v5e() -> list:
    """Eight TPUs v5e."""
    needed("libtpu")
    os.environ.update({k: os.environ.get(k, v) for k, v in TPU_VARIABLES.items()})
    topology = topologies.get_topology_desc(platform="tpu", topology_name="v5e:2x4")
    return topology.devices


def h100() -> list:
    """An H100; call it before JAX looks for devices."""
    for name in ("jax-cuda12-plugin", "jax-cuda12-pjrt", "nvidia-cuda-nvcc-cu12"):
        needed(name)
    import nvidia.cuda_nvcc

    os.environ["JAX_SKIP_CUDA_CONSTRAINTS_CHECK"] = "1"
    os.environ["XLA_FLAGS"] = f"--xla_gpu_cuda_data_dir={list(nvidia.cuda_nvcc.__path__)[0]}"
    jax.config.update("jax_platforms", "cpu")
    topology = topologies.get_topology_desc(
        platform="cuda", topology_name="h100", target_config=H100, topology="1x1x1"
    )
    return topology.devices


TARGETS = {"tpu-v5e": v5e, "h100": h100}
