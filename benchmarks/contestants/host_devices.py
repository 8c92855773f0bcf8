"""One estimate on devices of this host, with as many directions as devices; or a part of it, on one device.

All devices share the host's cores, so CPU seconds are those of all together: evaluations, and the sum of
all directions once for each device (scalars) or once in all (sliced).
"""

import time
from functools import partial

import jax
import jax.numpy as jnp

import zojax
from benchmarks import works
from benchmarks.contestants import Host


def build(work, devices, way):
    mesh = jax.make_mesh((len(devices),), ("pop",), (jax.sharding.AxisType.Auto,), devices=devices)
    put = partial(jax.device_put, device=jax.NamedSharding(mesh, jax.P()))
    params = put(works.fill(work.params, scale=0.1))
    batch, weights = put(works.fill(work.batch, seed=1)), jnp.ones(len(devices))
    options = {"axis_name": "pop", "update": way} if way in ("scalars", "sliced") else {}
    estimator = zojax.estimator(num_directions=len(devices), batch_size=1, **options)
    parts = {
        "evaluations": lambda p, b, w: estimator.evaluate(0, work.loss, p, (b,)),
        "sum": lambda p, b, w: estimator.combine(0, p, w),
    }
    whole = lambda p, b, w: estimator.estimate(0, work.loss, p, (b,)).grads  # noqa: E731
    run = partial(jax.jit(parts.get(way, whole)), params, batch, weights)
    return Host(lambda: jax.block_until_ready(run()), clock=time.process_time)
