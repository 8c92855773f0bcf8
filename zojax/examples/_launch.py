"""Starts the processes of `jax.distributed` on this machine, kills one, and starts it again."""

import argparse
import json
import os
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Sequence

from zojax import trajectory


def launch(argv: Sequence[str], args: argparse.Namespace) -> list[dict[str, float]]:
    """Runs `args.processes` processes until they end; returns the JSON that each printed.

    With `args.kill`, the last one is killed once half of `args.steps` are in `args.log`.

    Raises:
      ValueError: a process failed. All others are then ended.
    """
    command = [sys.executable, "-m", "zojax.examples.distributed", *argv]
    command += ["--coordinator", f"127.0.0.1:{_free_port()}", "--rank"]
    environment = os.environ | {"JAX_ENABLE_RECOVERABILITY": "1"}

    def start(rank: int) -> subprocess.Popen:
        return subprocess.Popen(
            [*command, str(rank)], env=environment, stdout=subprocess.PIPE, text=True
        )

    workers = [start(rank) for rank in range(args.processes)]
    last, is_due = args.processes - 1, args.kill and args.processes > 1
    try:
        while None in (codes := [worker.poll() for worker in workers]) and not any(codes):
            if is_due and steps_of(args.log) >= args.steps // 2:
                is_due = False
                workers[last].kill()
                workers[last].communicate()
                workers[last] = start(last)
                print(f"Process {last} was killed and started again.", flush=True)
            time.sleep(0.05)
    finally:
        for worker in workers:
            worker.kill()
    if any(codes):
        raise ValueError(f"the processes ended with exit codes {codes}; see their messages.")
    return [json.loads(worker.communicate()[0]) for worker in workers]


def steps_of(path: str) -> int:
    """The steps in a log that another process writes."""
    try:
        with warnings.catch_warnings(action="ignore"):  # of a record that is being written
            return trajectory.load(path).steps
    except (OSError, ValueError):
        return 0


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
