"""Runs that are killed at random moments and go on: `python -m tests._survival JOB FOLDER KILLS`.

Each life of a run is a forked child. The parent imports everything once and starts no backend of JAX.
"""

import contextlib
import hashlib
import os
import pathlib
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax

import zojax
from zojax import search, trajectory
from zojax.examples import finetune


def hosted(params):
    """A loss of the host that takes a while."""
    time.sleep(0.0005)
    return float(np.sum((np.asarray(params) - 1) ** 2) + params[0] * params[1])


def minimized(log: pathlib.Path) -> str:
    """The digest of parameters and state after `zojax.minimize`, recorded with Adam's moments."""
    estimator = zojax.estimator(zojax.directions.guided(4), num_directions=2, mu=1e-2)
    tx, params = zojax.zeroth_order(optax.adam(1e-2), estimator, key=1), jnp.arange(6.0)
    with trajectory.Recorder(log, tx, params) as recorder:
        state = None
        if recorder.past is not None:
            params, state = trajectory.resume(params, tx, recorder.past)

        def callback(progress):
            time.sleep(0.005)
            recorder.callback(progress)

        steps = 2000 - recorder.steps
        found = zojax.minimize(
            lambda x: jnp.sum(jnp.cos(x) + 0.1 * x**2),
            params,
            tx,
            steps,
            state=state,
            chunk_size=10,
            callback=callback,
        )
    state = found.state
    kept = (found.params, jax.random.key_data(state.rng_key), state.count, state.value)
    kept = (*kept, state.inner_state, state.estimator_state.direction, state.coefficients)
    return digest(kept)


def searched(log: pathlib.Path) -> str:
    """The digest of a search and of a second one that continues from its state."""
    space, options = [search.uniform(-2, 2)] * 4, dict(jit=False, key=3)
    first = search.minimize(hosted, space, budget=300, log=log, **options)
    second = search.minimize(
        hosted, space, budget=300, state=first.search_state, log=f"{log}.second", **options
    )
    return digest([(r.best, r.best_value, r.history.values) for r in (first, second)])


def finetuned(log: pathlib.Path) -> str:
    """The digest of the log of `python -m zojax.examples.finetune`, and of its parameters by a seal."""
    given = ["--data", "digits", "--steps", "800", "--num-directions", "2", "--batch", "16"]
    with open(os.devnull, "w") as null, contextlib.redirect_stdout(null):
        with contextlib.redirect_stderr(null):
            finetune.main([*given, "--log", str(log), "--out", str(log.with_name("curve.png"))])
    found = trajectory.load(log)
    return f"{digest(found.scalars)} {found.seals[-1]}"


JOBS = {"minimize": minimized, "search": searched, "finetune": finetuned}


def digest(tree) -> str:
    found = hashlib.sha256()
    for leaf in jax.tree.leaves(tree):
        found.update(np.ascontiguousarray(leaf).tobytes())
    return found.hexdigest()


def begin(job: Callable[[pathlib.Path], str], log: pathlib.Path) -> int:
    """A child that does the job and writes its result beside the log; its process id."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        result = job(log)
        log.with_name("result").write_text(result)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def written(log: pathlib.Path) -> int:
    """Bytes in the files of a run."""
    return sum(path.stat().st_size for path in log.parent.glob(f"{log.name}*"))


def killed(job: Callable, log: pathlib.Path, growth: int, rng: random.Random) -> bool:
    """Whether a life was killed, after a random growth of its files and a random time."""
    goal, child = written(log) + rng.randrange(growth), begin(job, log)
    while written(log) < goal:
        if os.waitpid(child, os.WNOHANG)[0]:
            return False
        time.sleep(0.005)
    time.sleep(rng.uniform(0, 0.02))
    os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def main(name: str, folder: str, kills: str) -> None:
    job, rng = JOBS[name], random.Random(0)
    whole, broken = (pathlib.Path(folder) / part / "log" for part in ("whole", "broken"))
    for log in (whole, broken):
        log.parent.mkdir()
    assert os.waitpid(begin(job, whole), 0)[1] == 0
    # A life grows by half of this, or by more on a busy machine, where its parent looks late.
    growth, count = written(whole) // (2 * int(kills)), 0
    while count < int(kills) and killed(job, broken, growth, rng):
        count += 1
    assert os.waitpid(begin(job, broken), 0)[1] == 0
    same = whole.with_name("result").read_text() == broken.with_name("result").read_text()
    print(f"{count} kills, {'the same' if same else 'another'} result")


if __name__ == "__main__":
    main(*sys.argv[1:])
