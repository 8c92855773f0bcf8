"""CPU seconds of a step on 1, 2, 4 and 8 devices of this host, beside the model of `scaling`.

There are as many directions as devices. All devices share the host's cores, so the CPU seconds of a step
are those of all devices together: evaluations, and the sum of all directions once for each device
(scalars) or once in all (sliced).

    python -m benchmarks.host_devices 8
"""

import json
import os
import statistics
import subprocess
import sys
import time
from functools import partial
from typing import Any

DEVICES = (1, 2, 4, 8)
WIDTH, ROWS = 1024, 64


def measured(devices: int) -> dict[str, float]:
    """CPU seconds by what was run, in a process with so many devices."""
    flags = f"--xla_force_host_platform_device_count={devices} --xla_cpu_multi_thread_eigen=false"
    command = [sys.executable, "-m", "benchmarks.host_devices", str(devices)]
    done = subprocess.run(
        command, env=os.environ | {"XLA_FLAGS": flags}, capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


def predicted(alone: dict[str, float], devices: int) -> dict[str, float]:
    """The same by the model, from the parts of a step on one device."""
    evaluations, sums = devices * alone["evaluations"], devices * alone["sum"]
    return {"scalars": evaluations + devices * sums, "sliced": evaluations + sums}


def main(devices: int) -> None:
    import jax
    import jax.numpy as jnp

    import zojax

    mesh = jax.make_mesh((devices,), ("pop",), axis_types=(jax.sharding.AxisType.Auto,))
    put = partial(jax.device_put, device=jax.NamedSharding(mesh, jax.P()))
    params = put({"in": jnp.zeros((WIDTH, 2 * WIDTH)), "out": jnp.zeros((2 * WIDTH, WIDTH))})
    x = put(jnp.ones((ROWS, WIDTH)))

    def loss(params, x):
        return jnp.mean((jnp.tanh(x @ params["in"]) @ params["out"] - x) ** 2)

    def estimate(**options):
        estimator = zojax.estimator(num_directions=devices, batch_size=1, **options)
        return jax.jit(lambda params, x: estimator.estimate(0, loss, params, (x,)).grads)

    ways: dict[str, Any] = {
        way: (estimate(axis_name="pop", update=way), x) for way in ("scalars", "sliced")
    }
    if devices == 1:
        one = zojax.estimator(batch_size=1)
        ways["evaluations"] = (jax.jit(lambda p, x: one.evaluate(0, loss, p, (x,))), x)
        ways["sum"] = (jax.jit(lambda p, c: one.combine(0, p, c)), jnp.ones(1))
    print(json.dumps({name: cpu_seconds(run, params, at) for name, (run, at) in ways.items()}))


def cpu_seconds(run, *arguments, times: int = 7) -> float:
    """Median CPU seconds of a call; the first one compiles."""
    import jax

    seconds = []
    for _ in range(times + 1):
        start = time.process_time()
        jax.block_until_ready(run(*arguments))
        seconds.append(time.process_time() - start)
    return statistics.median(seconds[1:])


if __name__ == "__main__":
    main(int(sys.argv[1]))
