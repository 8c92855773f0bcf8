"""Logs under attack: Ctrl-C, full disks, kills, damaged bytes.

Unreadable logs do not load. Lost steps were promised by a call, and are missing. Wrong logs hold other
steps than the run. Interrupts and full disks change the whole process: give them one of their own.
"""

import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

import zojax
from benchmarks.store import ROOT
from zojax import trajectory

EVERY = 16
CHUNK = 100  # steps of a chunk: most of the time goes into writing
P0 = {"w": jnp.ones(3)}
INNER = optax.inject_hyperparams(optax.sgd)(0.01)  # the learning rate is recorded too
TX = zojax.zeroth_order(INNER, zojax.estimator(num_directions=2), key=3)


def loss(params):
    return jnp.sum(params["w"] ** 2)


@jax.jit
def step(params, state):
    updates, state = TX.update(None, state, params, value_fn=loss)
    return zojax.apply_updates(params, updates), state


def kills(runs: int, seed: int) -> dict[str, int]:
    """SIGKILL at random moments. `append` promises all steps but `every` - 1, `flush` all steps."""
    rng, counts, longest = random.Random(seed), _counts(runs), np.zeros((0, 2), np.float32)
    with tempfile.TemporaryDirectory() as folder:
        for i in range(runs):
            path = Path(folder) / str(i)
            promised = _killed(path, rng.randrange(2**31), rng.uniform(0, 0.3))
            longest = _count(counts, path, promised, longest)
    return counts


def damaged(runs: int, seed: int) -> dict[str, int]:
    """Small logs with changed, missing, zeroed or repeated bytes.

    `load` gives the true steps or raises ValueError. `load(damaged="drop")` gives all steps before the
    first byte that differs, unless this is in the header.
    """
    rng, counts = random.Random(seed), _counts(runs)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log"
        carries = _steps(40)
        sources = [_recorded(Path(folder) / str(i), carries, i) for i in range(3)]
        for _ in range(runs):
            data, intact = rng.choice(sources)
            changed, at = _damage(rng, data)
            path.write_bytes(changed)
            for how in ("raise", "drop"):
                try:
                    with warnings.catch_warnings(action="ignore"):
                        found = trajectory.load(path, damaged=how).scalars
                except ValueError:
                    counts["unreadable"] += how == "drop" and at >= min(intact)
                    continue
                whole, before = intact[len(data)], [s for size, s in intact.items() if size <= at]
                kept = max(before, key=len, default=whole[:0])
                counts["wrong"] += not np.array_equal(found, whole[: len(found)])
                counts["lost"] += max(0, len(kept) - len(found))
    return counts


def _counts(runs: int) -> dict[str, int]:
    return {"runs": runs, "unreadable": 0, "lost": 0, "wrong": 0}


def _count(counts: dict[str, int], path: Path, promised: int, longest: np.ndarray) -> np.ndarray:
    """Counts one log; gives the longest run so far, with which all others begin."""
    if not promised and not (path.exists() and path.read_bytes()):
        return longest  # nothing was recorded yet
    try:
        with warnings.catch_warnings(action="ignore"):  # of a record that was cut off
            found = trajectory.load(path).scalars
    except ValueError as error:
        counts["unreadable"] += "no step was recorded" not in str(error) or promised > 0
        return longest
    counts["lost"] += max(0, promised - len(found))
    shared = min(len(found), len(longest))
    counts["wrong"] += not np.array_equal(found[:shared], longest[:shared])
    return max(found, longest, key=len)


def interrupts(runs: int, seed: int) -> dict[str, int]:
    """Ctrl-C at random moments of `minimize(..., callback=recorder.callback)`.

    A callback that returned promises its steps, since the `with` block writes pending ones.
    """
    rng, counts = random.Random(seed), _counts(runs)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores it
    zojax.minimize(loss, P0, TX, 10, chunk_size=CHUNK)  # compiles
    longest, hits = np.zeros((0, 2), np.float32), 0
    with tempfile.TemporaryDirectory() as folder:
        for i in range(runs):
            path = Path(folder) / str(i)
            promised, hit = _interrupted(path, rng.uniform(0.001, 0.1))
            longest, hits = _count(counts, path, promised, longest), hits + hit
    return counts | {"interrupted": hits}


def _interrupted(path: Path, seconds: float) -> tuple[int, bool]:
    """The steps of callbacks that returned, and whether Ctrl-C ended the run."""
    promised, stop = 0, time.monotonic() + seconds + 2
    timer = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGINT))

    def callback(progress):
        nonlocal promised
        recorder.callback(progress)
        promised = progress.step
        return time.monotonic() > stop  # JAX may swallow an interrupt in a callback of its own

    try:
        with trajectory.Recorder(path, TX, P0, every=1, seal_every=1000) as recorder:
            timer.start()
            zojax.minimize(loss, P0, TX, 1_000_000, chunk_size=CHUNK, callback=callback)
        timer.join()
    except KeyboardInterrupt:
        return promised, True
    return promised, False


def full_disks(runs: int, seed: int) -> dict[str, int]:
    """A disk that is full at a random byte, and some steps later no longer.

    Every `append` promises its step once the disk has room, also one that raised OSError.
    """
    rng, counts, carries = random.Random(seed), _counts(runs), _steps(400)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    longest = np.stack([np.asarray(state.coefficients) for _, state in carries])
    with tempfile.TemporaryDirectory() as folder:
        for i in range(runs):
            _filled(rng, counts, Path(folder) / str(i), carries, longest)
    return counts


def _filled(rng, counts, path: Path, carries, longest) -> None:
    """One run: the disk fills up at a step, and has room again at a later one."""
    import resource

    _, hard = unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    every, full = rng.choice([1, 4, EVERY]), rng.choice([0, rng.randrange(len(carries))])
    free = rng.randrange(full, len(carries))
    with trajectory.Recorder(path, TX, P0, every=every, seal_every=20) as recorder:
        for i, (params, state) in enumerate(carries):
            if i == full:
                room = path.stat().st_size + rng.randrange(400)
                resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
            if i == free:
                _count(counts, path, 0, longest)  # readable, however little fits
                resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
            try:
                recorder.append(state, params)
            except OSError:
                if not full <= i < free:
                    raise
    _count(counts, path, len(carries), longest)


def _killed(path: Path, seed: int, seconds: float) -> int:
    """The steps that a process had promised when it was killed, some time after its first."""
    command = [sys.executable, "-m", __name__, str(path), str(seed)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        time.sleep(seconds)
        process.kill()
        lines = process.stdout.read().split(b"\n")[:-1]
    return int(lines[-1]) if lines else 0


def _recording(path: str, seed: int) -> None:
    """Records without end, and prints how many steps are promised."""
    rng, params, state = random.Random(seed), P0, TX.init(P0)
    recorder = trajectory.Recorder(path, TX, P0, every=EVERY, seal_every=50)
    while True:
        params, state = step(params, state)
        recorder.append(state, params)
        promised = recorder.steps - EVERY + 1
        if rng.random() < 0.05:
            recorder.flush()
            promised = recorder.steps
        os.write(1, b"%d\n" % promised)


def _recorded(path: Path, carries, kind: int) -> tuple[bytes, dict[int, np.ndarray]]:
    """A log's bytes, and the steps of each of its intact beginnings by their size."""
    with trajectory.Recorder(path, TX, P0, every=4, seal_every=9 if kind else None) as recorder:
        sizes = []
        for params, state in carries:
            recorder.append(state, params)
            sizes.append(path.stat().st_size)
        recorder.close(params if kind == 2 else None)
    data, intact = path.read_bytes(), {}
    header = 16 + int.from_bytes(data[8:12], "little")
    for size in (header, *sizes, len(data)):
        path.write_bytes(data[:size])
        intact[size] = trajectory.load(path).scalars
    return data, intact


def _damage(rng, data: bytes) -> tuple[bytes, int]:
    """Other bytes, and the place of the first that differs."""
    changed = data
    while changed == data:
        i, n = rng.randrange(len(data)), rng.randrange(1, 100)
        changed = rng.choice(
            [
                data[:i] + bytes([data[i] ^ 1 << rng.randrange(8)]) + data[i + 1 :],
                data[:i],
                data[:i] + bytes(len(data) - i),
                data[:i] + bytes(n) + data[i + n :],
                data[: i + n] + data[i:],
                data[:i] + data[i + n :],
                data[:i] + rng.randbytes(n) + data[i + n :],
                data + bytes(n),
            ]
        )
    both = min(len(data), len(changed))
    return changed, next((i for i in range(both) if data[i] != changed[i]), both)


def _steps(count: int) -> list[tuple]:
    """Parameters and state after every step."""
    found, carry = [], (P0, TX.init(P0))
    for i in range(count):
        if i % 7 == 0:
            carry[1].inner_state.hyperparams["learning_rate"] = jnp.float32(0.01 / (1 + i))
        carry = step(*carry)
        found.append(carry)
    return found


if __name__ == "__main__":
    _recording(sys.argv[1], int(sys.argv[2]))
