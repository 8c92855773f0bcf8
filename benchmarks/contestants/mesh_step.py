"""A step of another contestant with parameters and batch sharded over all devices (FSDP).

In CPU seconds of all devices together, which share the cores of the host.
"""

import importlib
import time

import jax

from benchmarks import works
from benchmarks.contestants import Host
from benchmarks.worker import peak_bytes


def build(work, devices, of: str, **settings):
    program = importlib.import_module(f"benchmarks.contestants.{of}").build(work, **settings)
    mesh = jax.make_mesh((len(devices),), ("data",), (jax.sharding.AxisType.Auto,), devices=devices)

    def placed(x, axis):
        spec = [None] * x.ndim
        if x.ndim and x.shape[axis] % len(devices) == 0:
            spec[axis] = "data"
        return jax.device_put(x, jax.NamedSharding(mesh, jax.P(*spec)))

    carry = program.start(jax.tree.map(lambda x: placed(x, -1), works.fill(work.params)))
    batch = jax.tree.map(lambda x: placed(x, 0), works.fill(work.batch, seed=1))
    step = jax.jit(program.step, donate_argnums=0).lower(carry, batch).compile()

    def run():
        nonlocal carry
        carry = jax.block_until_ready(step(carry, batch))

    return Host(run, facts=lambda: {"peak": peak_bytes(step)}, clock=time.process_time)
