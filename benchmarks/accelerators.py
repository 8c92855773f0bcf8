"""Peak memory of a step as compiled ahead of time for a TPU v5e or an H100: no such device is needed.

    python -m pip install ".[bench]" "jax[tpu]"
    JAX_PLATFORMS=cpu python -m benchmarks.accelerators tpu-v5e

"h100" needs what `benchmarks.table22` names. The compiler answers for the real chip; nothing is run.
"""

import argparse
import os
from functools import partial

import jax
import jax.numpy as jnp
from jax.experimental import topologies
from jax.sharding import SingleDeviceSharding

from benchmarks.measure import markdown, matching, peak_bytes, save
from benchmarks.memory import DIRECTIONS, backward, forward, mezo
from benchmarks.models import Model, smollm2, transformer
from benchmarks.table22 import h100, needed

# libtpu asks a metadata server about the machine unless it is told all of this.
TPU_ENVIRONMENT = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_WORKER_ID": "0",
}
MODELS = {
    "M (159M, scan), f32": transformer,
    "SmolLM2, bf16": partial(smollm2, batch=16, length=512, dtype=jnp.bfloat16),
}


def v5e() -> SingleDeviceSharding:
    """A TPU v5e that is not there, to compile for."""
    needed("libtpu")
    os.environ.update({k: os.environ.get(k, v) for k, v in TPU_ENVIRONMENT.items()})
    topology = topologies.get_topology_desc(platform="tpu", topology_name="v5e:2x2")
    return SingleDeviceSharding(topology.devices[0])


DEVICES = {"tpu-v5e": v5e, "h100": h100}


def _placed(tree, sharding):
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree)


def looped(model: Model):
    """Two forwards, nothing perturbed, in a loop: what the loop itself costs."""

    def both(params, batch):
        def turned(turn):
            return model.loss(params, **jax.tree.map(lambda x: jnp.where(turn, x[::-1], x), batch))

        return jax.lax.map(turned, jnp.array([False, True]))

    return jax.jit(both).lower(model.params, model.batch)


def programs(model: Model) -> dict:
    """The programs to compile, on the device that the model's shapes are placed on."""
    found = {"forward": forward(model), "two forwards in a loop": looped(model)}
    found["jax.grad + sgd"] = backward(model)
    return found | {f"zojax.mezo, {label}": mezo(model, d) for label, d in DIRECTIONS.items()}


def _peak(lowered) -> float:
    """Bytes, or infinity where the compiler finds that the program does not fit the chip."""
    try:
        return peak_bytes(lowered.compile())
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return float("inf")


def measure(name: str, model: Model, sharding) -> list[dict]:
    placed = Model(model.loss, _placed(model.params, sharding), _placed(model.batch, sharding))
    peaks = {k: _peak(p) for k, p in programs(placed).items()}
    size = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(model.params))
    rows = []
    for label, peak in peaks.items():
        fits = peak < float("inf")
        rows.append(
            {
                "model": name,
                "program": label,
                "peak, MB": peak / 1e6 if fits else "does not fit",
                "peak / parameters": peak / size if fits else "",
                "peak / forward peak": peak / peaks["forward"] if fits else "",
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("device", choices=tuple(DEVICES))
    parser.add_argument("--only", default="", help="part of a model's name")
    arguments = parser.parse_args()
    chosen, sharding = matching(MODELS, arguments.only), DEVICES[arguments.device]()
    rows = [row for name, make in chosen.items() for row in measure(name, make(), sharding)]
    print(markdown(rows)) if arguments.only else save("memory", rows, device=arguments.device)


if __name__ == "__main__":
    main()
