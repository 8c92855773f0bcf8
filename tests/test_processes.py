"""Two processes of `jax.distributed` on this machine: an exchange, and runs that both of them record."""

import os
import socket
import subprocess
import sys

import numpy as np
import pytest

from zojax import processes

START = """
import os, sys
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"
import jax, jax.numpy as jnp, numpy as np, pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P

rank = int(sys.argv[1])
jax.distributed.initialize(sys.argv[2], 2, rank)
import zojax
from zojax import trajectory
from zojax.processes import exchange

os.chdir(sys.argv[3])  # each process has a folder of its own
assert jax.process_count() == 2
"""
EXCHANGE = """
rows = [exchange(np.float32([rank, i]), i) for i in range(3)]
np.testing.assert_array_equal(rows, [[[0, i], [1, i]] for i in range(3)])
again = exchange(np.float32([rank, 1]), 1)  # as a process that was started again
np.testing.assert_array_equal(again, rows[1])
other = exchange(np.array([rank == 0]), 2, name="flags")
assert other.tolist() == [[True], [False]] and other.dtype == bool
shapes = r"values of step 5 are float32\\[1\\] in process 0, but float32\\[2\\] in process 1"
with pytest.raises(ValueError, match=shapes if rank == 0 else "in process 0: give arrays of one"):
    exchange(np.zeros(rank + 1, np.float32), 5)
if rank == 0:
    with pytest.raises(TimeoutError, match=r"processes \\[1\\] of 2 sent no late of step 0 within 0.1 s"):
        exchange(0.0, 0, timeout=0.1, name="late")
"""
OWN = """
tx, params0 = zojax.mezo(0.1, key=3), {"w": jnp.ones(3)}
data = jnp.arange(3.0) + rank

def loss(params):
    return jnp.mean((params["w"] - data) ** 2)

def run(path, steps, agreeing=True):
    with trajectory.Recorder(path, tx, params0, every=1) as recorder:
        params, state = params0, tx.init(params0)
        if recorder.past is not None:
            params, state = trajectory.resume(params0, tx, recorder.past)
        for i in range(int(state.count), steps):
            points, _ = tx.estimator.ask(jax.random.fold_in(state.rng_key, i), params)
            values = np.stack([loss({"w": w}) for w in points["w"]])
            if agreeing:
                values = exchange(values, i, name=path).mean(axis=0)
            updates, state = tx.update(None, state, params, values=values)
            params = zojax.apply_updates(params, updates)
            recorder.append(state, params)
    return params

params = run("own", 6)
assert (exchange(params["w"], 0, name="end") == np.asarray(params["w"])).all()
again = run("own", 8)  # process 1 has no file, and gets the log from process 0
with trajectory.Recorder("own", tx, params0) as recorder:
    assert recorder.steps == recorder.past.steps == 8
    assert dict(recorder.past.seals).keys() == {1, 2, 4, 8}
    replayed = trajectory.replay(params0, tx, recorder.past)
np.testing.assert_array_equal(replayed["w"], again["w"])
with pytest.raises(ValueError, match=rf"after step 1 processes \\[{1 - rank}\\] have other parameters"):
    run("apart", 2, agreeing=False)
"""
SPANNING = """
mesh = jax.make_mesh((2, 2), ("data", "model"), axis_types=(AxisType.Auto,) * 2)

def put(x, *spec):
    sharding = NamedSharding(mesh, P(*spec))
    return jax.make_array_from_callback(x.shape, sharding, lambda part: x[part])

w = {"w": put(np.linspace(-1, 1, 32, dtype=np.float32).reshape(8, 4), "data", "model")}
batch = put(np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8), "data")

def spanning(params, batch):
    return jnp.mean((batch @ params["w"] - 1) ** 2)

def minimized(params, steps, **options):
    with trajectory.Recorder("spanning", tx, w) as recorder:
        options |= {"args": (batch,), "chunk_size": 4, "callback": recorder.callback}
        return zojax.minimize(spanning, params, tx, steps, **options), recorder.past

found, past = minimized(w, 8)
assert past is None and found.value < found.history[0]
assert found.params["w"].sharding == w["w"].sharding
with trajectory.Recorder("spanning", tx, w) as recorder:
    params, state = trajectory.resume(w, tx, trajectory.truncate(recorder.past, 4))
    assert params["w"].sharding == w["w"].sharding
more = zojax.minimize(spanning, params, tx, 4, state=state, args=(batch,), chunk_size=4)
for a, b in zip(more.params["w"].addressable_shards, found.params["w"].addressable_shards):
    np.testing.assert_array_equal(a.data, b.data)
print(sorted(os.listdir()))
"""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_two_processes_exchange_record_and_continue(tmp_path):
    address, started = f"127.0.0.1:{free_port()}", []
    for rank in ("0", "1"):
        (tmp_path / rank).mkdir()
        command = [sys.executable, "-c", START + EXCHANGE + OWN + SPANNING, rank, address]
        environment = os.environ | {"PYTHONPATH": os.getcwd()}
        piped = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
        started.append(subprocess.Popen([*command, tmp_path / rank], **piped))
    ended = [process.communicate(timeout=600) for process in started]
    errors = "\n".join(error[-3000:] for _, error in ended)
    printed = [out.strip().splitlines()[-1:] for out, _ in ended]
    assert printed == [["['apart', 'own', 'spanning']"], ["[]"]], errors


def test_one_process_exchanges_with_itself():
    np.testing.assert_array_equal(processes.exchange([1, 2], step=4), [[1, 2]])
    with pytest.raises(ValueError, match="timeout must be positive"):
        processes.exchange(0.0, step=0, timeout=0.0)
