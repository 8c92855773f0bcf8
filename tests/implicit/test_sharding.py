"""shard_map over a mesh of four host devices, in a process of its own."""

import subprocess
import sys

PROGRAM = """
import os
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=4"
import jax, jax.numpy as jnp
from jax.sharding import AxisType, PartitionSpec as P
from tests.implicit._helpers import close, materialised, noises, normal
from zojax.implicit import evaluate, explain

mesh = jax.make_mesh((2, 2), ("a", "b"), axis_types=(AxisType.Auto,) * 2)
x = normal(0, (6, 4))


def columns(w, x):
    return jax.lax.psum(jnp.tanh(x @ w) @ w.T, "b")


def rows(w, x):
    return jnp.tanh(jax.lax.psum(x @ w, "b"))


def gathered(w, x):
    return x @ jax.lax.all_gather(w, "b", axis=0, tiled=True)


def elementwise(w, x):
    return x @ jnp.sin(w)


CASES = {
    "columns": (columns, P(None, "b"), P("a", None)),
    "rows": (rows, P("b"), P("a", "b")),
    "gathered": (gathered, P("b", None), P("a", None)),
    "elementwise": (elementwise, P(), P("a")),
}
for name, (fun, w_spec, x_spec) in CASES.items():
    check_vma = name != "gathered"  # the same on all of b, but not provably
    run = jax.shard_map(
        fun, mesh=mesh, in_specs=(w_spec, x_spec), out_specs=P("a"), check_vma=check_vma
    )
    w = normal(1, (4, 8))
    for kind, z in noises(w.shape, 1).items():
        actual = jax.jit(lambda w, s: evaluate(run, w, z, s, x))(w, 0.1)
        close(actual, run(materialised(w, z, 0.1), x), 1e-5)
        events = explain(run, w, z, x).leaves["params"].events
        kept = [e.primitive for e in events if e.kind == "kept"]
        served = kind == "low_rank" and name != "elementwise"
        assert ("dot_general" in kept) == served, (name, kind)
        missing = any(e.kind == "missing" for e in events)
        assert missing == ("low_rank" in kind and not served), (name, kind)
print("sharded")
"""


def test_shard_map():
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False
    )
    assert done.stdout.endswith("sharded\n"), done.stderr[-3000:]
