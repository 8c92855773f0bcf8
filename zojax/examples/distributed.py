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
from zojax.examples import _command, _finetune_options, _launch, _tables

__all__ = ["main", "make_parser", "make_run", "work"]

PARAMS = {"digits": "full", "reviews": "shifts"}  # what to train


def make_parser() -> argparse.ArgumentParser:
    """The command line's arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m zojax.examples.distributed",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--processes", type=int, default=2, help="how many")
    add("--data", choices=tuple(PARAMS), default="digits", help="what to learn")
    add("--split", choices=("data", "directions"), default="data", help="what processes divide")
    for name, kind in _finetune_options.StepDefaults.__annotations__.items():
        add(f"--{name.replace('_', '-')}", type=kind, help="as in zojax.examples.finetune")
    add("--seed", type=int, default=0, help="of directions, batches and initial weights")
    add("--log", help="record here, and continue a run that was cut off")
    add("--timeout", type=float, default=300.0, help="seconds to wait for another process")
    add("--kill", action=argparse.BooleanOptionalAction, default=True, help="kill one half-way")
    add("--coordinator", help="HOST:PORT of rank 0, or auto; without it, start all here")
    add("--rank", type=int, help="of this process; it goes with --coordinator")
    return parser


def settle(args: argparse.Namespace) -> None:
    """Fills in the defaults; raises ValueError for misfits."""
    _command.require_seed(args)
    _command.fill(args, _finetune_options.DEFAULTS[args.data, PARAMS[args.data]])
    for name, default in (("processes", 2), ("timeout", 300.0)):
        _command.require_positive(args, name, default)
    if args.split == "directions" and 2 * args.num_directions % args.processes:
        raise ValueError(
            f"--split directions divides 2 * --num-directions by --processes, got "
            f"{args.num_directions} and {args.processes}; try --num-directions {args.processes}."
        )
    if args.coordinator is not None and args.log is None:
        raise ValueError("--coordinator needs --log: process 0 records the run there.")


def make_run(args: argparse.Namespace) -> tuple[lm.Task, zojax.ZerothOrder]:
    """The task and the optimizer."""
    task = _finetune_options.TASKS[args.data](PARAMS[args.data], args.seed)
    rate = optax.cosine_decay_schedule(args.learning_rate, args.steps)
    return task, zojax.mezo(rate, args.mu, num_directions=args.num_directions, key=args.seed)


def work(args: argparse.Namespace) -> dict[str, float]:
    """The part of one process in the run, from the log on if there is one; returns what it did."""
    task, tx = make_run(args)
    rank, count, by_data = jax.process_index(), jax.process_count(), args.split == "data"

    @jax.jit
    def evaluate(params, state, frozen, batch):
        key = jax.random.fold_in(state.rng_key, state.count)
        points, _ = tx.estimator.ask(key, params)
        own = points if by_data else jax.tree.map(lambda x: x[rank::count], points)
        return jax.lax.map(lambda point: task.objectives["nll"](point, frozen, batch), own)

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
            own = evaluate(params, state, task.frozen, next(batches))
            rows = processes.exchange(own, i, timeout=args.timeout)
            values = rows.mean(axis=0) if by_data else rows.T.reshape(-1)
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
    parser = make_parser()
    args = parser.parse_args(argv)
    with _command.refusing(parser, "finetune", "sklearn"):
        settle(args)
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
