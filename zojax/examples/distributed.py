"""Trains in several processes that exchange floats: `python -m zojax.examples.distributed`.

Each process evaluates the loss on batches of its own, sends one float for each evaluation, and makes the
same step as all others. With `--split directions` all have the same batches and evaluate different points.

This command starts `--processes` on this machine. Half-way it kills one and starts it again: it replays the
log and goes on. At the end a late joiner replays the whole log. On a cluster, start one process on each
host, with the rank of the host. `--coordinator auto` asks Slurm, MPI or Kubernetes for address and ranks.

    export JAX_ENABLE_RECOVERABILITY=1
    python -m zojax.examples.distributed --processes 4 --rank RANK --coordinator FIRST_HOST:1234

`--data reviews` trains SmolLM2-135M-Instruct, as `python -m zojax.examples.finetune` does.
"""

import argparse
import itertools
import json
import os
import sys
import tempfile
import time

import jax
import numpy as np
import optax

import zojax
from zojax import lm, processes, trajectory
from zojax.examples import _command, _distributed_options, _launch, _tables
from zojax.examples._distributed_options import PARAMS
from zojax.examples._finetune_options import TASKS

__all__ = ["main", "make_run", "work"]


def make_run(args: argparse.Namespace) -> tuple[lm.Task, zojax.ZerothOrder]:
    """The task and the optimizer."""
    task = TASKS[args.data](PARAMS[args.data], args.seed)
    rate = optax.cosine_decay_schedule(args.learning_rate, args.steps)
    # One direction at a time: the same bits, however processes divide the directions.
    options = dict(num_directions=args.num_directions, batch_size=1, key=args.seed)
    return task, zojax.mezo(rate, args.mu, **options)


def work(args: argparse.Namespace) -> dict[str, float]:
    """The part of one process in the run, from the log on if there is one; returns what it did."""
    task, tx = make_run(args)
    rank, count, by_data = jax.process_index(), jax.process_count(), args.split == "data"

    share = args.num_directions // count
    own = None if by_data else slice(rank * share, (rank + 1) * share)

    @jax.jit
    def evaluate(params, state, frozen, batch):
        key = jax.random.fold_in(state.rng_key, state.count)
        arguments = (task.objectives["nll"], params, (frozen, batch))
        return tx.estimator.evaluate(key, *arguments, directions=own)

    @jax.jit
    def step(params, state, values):
        updates, state = tx.update(None, state, params, values=values)
        return zojax.apply_updates(params, updates), state

    with trajectory.Recorder(args.log, tx, task.params, every=1) as recorder:
        params, state = task.params, tx.init(task.params)
        if recorder.past is not None:
            params, state = trajectory.resume(task.params, tx, recorder.past)
        begun, start = recorder.steps, time.process_time()
        stride = count if by_data else 1
        first = begun * stride + (rank if by_data else 0)
        batches = itertools.islice(task.batches(args.seed, args.batch), first, None, stride)
        for i in range(begun, args.steps):
            values = evaluate(params, state, task.frozen, next(batches))
            rows = processes.exchange(values, i, timeout=args.timeout)
            values = rows.mean(axis=0) if by_data else rows.reshape(-1)
            params, state = step(params, state, values)
            recorder.append(state, params)
        seconds = time.process_time() - start
        recorder.close(params)
    sent = 4 * tx.estimator.evaluations // (1 if by_data else count)
    return {"rank": rank, "first step": begun, "CPU seconds": seconds, "bytes a step": sent}


def join(args: argparse.Namespace) -> None:
    """Runs one process among others and prints what it did, as JSON."""
    known = {} if args.coordinator == "auto" else {"coordinator_address": args.coordinator}
    known |= {"num_processes": args.processes, "process_id": args.rank} if known else {}
    jax.distributed.initialize(**known)
    print(json.dumps(work(args)), flush=True)
    if jax.process_index() == 0:  # JAX's coordination service runs here: leave last
        time.sleep(2)


def report(args: argparse.Namespace, workers: list[dict[str, float]]) -> str:
    """A table of the processes, and a late joiner that has the first parameters and the log."""
    names = list(workers[0])
    rows = [names, *([f"{worker[name]:.4g}" for name in names] for worker in workers)]
    task, tx = make_run(args)
    log, start = trajectory.load(args.log), time.process_time()
    params = trajectory.replay(task.params, tx, log)  # raises unless it arrives at the same bits
    seconds, size = time.process_time() - start, _tables.of_bytes(os.path.getsize(args.log))
    share = seconds / workers[0]["CPU seconds"]
    batches = task.split("held_out")
    outputs = [jax.jit(task.outputs)(params, task.frozen, batch) for batch in batches]
    labels = [batch["label"] for batch in batches]
    accuracy = lm.score(np.concatenate(outputs), np.concatenate(labels)).accuracy
    return "\n".join(
        (
            _tables.table((-6, 12, 14, 15), rows),
            f"\nAll processes ended with the digest {log.end}; held-out accuracy {accuracy:.3f}.",
            f"A late joiner replayed the log of {size} to the same bits in {seconds:.3g} CPU seconds, "
            f"{share:.0%} of the run's.",
        )
    )


def main(argv: list[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    parser = _distributed_options.make_parser()
    args = parser.parse_args(argv)
    with _command.refusing(parser, "finetune", "sklearn"):
        _distributed_options.settle(args)
        if args.coordinator is not None:
            join(args)
            return 0
        with tempfile.TemporaryDirectory() as folder:
            args.log = args.log or os.path.join(folder, "run.log")
            given = [*(sys.argv[1:] if argv is None else argv), "--log", args.log]
            workers = _launch.launch(given, args)
            print(report(args, workers))
    return 0


if __name__ == "__main__":
    sys.exit(main())
