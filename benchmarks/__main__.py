"""Everything that this machine can measure: `python -m benchmarks`.

    python -m benchmarks --list            what there is
    python -m benchmarks --only mlp mezo   some of it
    python -m benchmarks --quick           tiny works in a minute, nothing kept: does it run?
    python -m benchmarks --tables          tables and pictures again from results/, nothing measured

The pages show what a CPU measured; every other device has a page of its own, results/<device>/README.md.

Each section is a process of its own: one that fails is a line in the summary, and the rest goes on.
Sections that take hours run only by name, and some only on a CPU or a GPU: `--list` tells.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from typing import NamedTuple

from benchmarks import environments
from benchmarks.workers import ROOT


class Section(NamedTuple):
    """Attributes:
    command: module of `benchmarks` and arguments.
    quick: arguments of a trial run, or None for no such run.
    about: one line.
    cpu: whether it runs on a CPU without being named.
    gpu: the same of a GPU.
    """

    command: tuple[str, ...]
    quick: tuple[str, ...] | None
    about: str
    cpu: bool = True
    gpu: bool = True


INTERRUPTED = 130  # exit status, as shells have it
QUICK = ("--quick", "--rounds", "3")
SECTIONS = {
    "sphere": Section(
        ("contests", "sphere"), QUICK, "sphere and Rosenbrock beside every peer", gpu=False
    ),
    "mlp": Section(("contests", "mlp"), QUICK, "256 members of an MLP beside every peer"),
    "mezo": Section(("contests", "mezo"), QUICK, "MeZO steps of model M and SmolLM2"),
    "transformers": Section(("contests", "transformers"), QUICK, "populations, 64 to 4,096"),
    "convnet": Section(("contests", "convnet"), QUICK, "populations of a small ConvNet"),
    "opt": Section(
        ("memory", "--table22", "here"),
        None,
        "MeZO's Table 22: run on a GPU, else compiled",
        cpu=False,
    ),
    "quality": Section(
        ("quality",), ("--quick",), "cosine to the gradient; loss curves", gpu=False
    ),
    "scaling": Section(("scaling",), ("--quick",), "exponents of time and memory", gpu=False),
    "batches": Section(("batches",), ("--quick",), "batch_size against dimension"),
    "noise": Section(("noise",), None, "noise kernels against a copy"),
    "memory": Section(("memory",), None, "peaks of a step, by the compiler"),
    "step": Section(("step",), None, "a step against two forwards"),
    "population": Section(("population",), None, "populations against inference"),
    "compile": Section(("compile",), None, "time to compile a step", gpu=False),
    "policy": Section(("policy",), None, "environment steps a second", gpu=False),
    "attacks": Section(("attacks",), None, "attacks beside ART", False, False),
    "tuning": Section(("tuning",), None, "hyper-parameters", False, False),
    "search": Section(("search",), None, "searches beside other libraries", False, False),
    "reliability": Section(
        ("reliability",), ("--quick",), "interrupts, hostile inputs", False, False
    ),
    "accelerators": Section(("accelerators", "tpu-v5e"), None, "peaks for a TPU v5e", False, False),
}


def run(name: str, quick: bool, variables: dict) -> str:
    """Runs a section; returns how it ended."""
    section = SECTIONS[name]
    command = [sys.executable, "-m", f"benchmarks.{section.command[0]}", *section.command[1:]]
    command += section.quick if quick else ()
    print(f"\n== {name}: {section.about}", flush=True)
    start = time.perf_counter()
    process = subprocess.Popen(command, cwd=ROOT, env=variables, stderr=subprocess.PIPE, text=True)
    last = ""
    try:
        for line in process.stderr:
            sys.stderr.write(line)
            last = line.strip() or last
    except KeyboardInterrupt:
        process.kill()
        raise
    finally:
        code = process.wait()
    seconds = time.perf_counter() - start
    return f"{seconds:.0f} s" if code == 0 else f"failed: {last[:150] or f'exit status {code}'}"


def platform(device: str | None, variables: dict) -> str:
    """What JAX will run on, asked in a process of its own: a GPU belongs to one process at a time."""
    ask = "import jax; print(jax.default_backend())"
    done = subprocess.run(
        [sys.executable, "-c", ask], env=variables, capture_output=True, text=True, check=False
    )
    if done.returncode and device:
        raise SystemExit(f"--device {device}: no {device} found by JAX.")
    if done.returncode:
        raise SystemExit(f"JAX finds no device: {done.stderr.strip().splitlines()[-1]}")
    return done.stdout.strip()


def chosen(arguments, backend: str) -> list[str]:
    fitting = [n for n, s in SECTIONS.items() if (s.cpu if backend == "cpu" else s.gpu)]
    names = arguments.only or fitting
    if not arguments.quick:
        return names
    for name in names:
        if SECTIONS[name].quick is None:
            print(f"{name} has no trial run: left out")
    names = [name for name in names if SECTIONS[name].quick is not None]
    if not names:
        raise SystemExit("--quick: none of these sections has a trial run.")
    return names


def _where(section: Section) -> str:
    """Where it runs without being named, unless that is everywhere."""
    if section.cpu and section.gpu:
        return ""
    return " (on a CPU)" if section.cpu else " (on a GPU)" if section.gpu else " (by name only)"


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--only", nargs="+", choices=SECTIONS, help="sections")
    add("--quick", action="store_true", help="tiny works; results go to a temporary folder")
    add("--device", choices=("cpu", "gpu", "tpu"), help="by default what JAX finds")
    add("--list", action="store_true", help="the sections")
    add("--tables", action="store_true", help="tables and pictures of every device in results/")
    add("--make", choices=environments.ENVIRONMENTS, help="make a contestant's environment")
    arguments = parser.parse_args(argv)
    if arguments.tables and (arguments.only or arguments.quick or arguments.device):
        parser.error("--tables measures nothing, and is of every section and device.")
    if arguments.list:
        for name, section in SECTIONS.items():
            print(f"{name:13} {section.about}{_where(section)}")
        return 0
    if arguments.make:
        print(environments.python_of(arguments.make))
        return 0
    if arguments.quick and not arguments.tables:
        return measure(arguments)
    from benchmarks import page

    page.check()
    status = 0 if arguments.tables else measure(arguments)
    if status != INTERRUPTED:
        page.write()
    return status


def measure(arguments) -> int:
    # Processes that share a GPU: none may take most of its memory beforehand.
    variables = os.environ | {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    if arguments.device:
        variables["JAX_PLATFORMS"] = {"gpu": "cuda"}.get(arguments.device, arguments.device)
    ends, status = {}, 0
    try:
        with tempfile.TemporaryDirectory() as trial:
            if arguments.quick:
                variables["ZOJAX_RESULTS"] = trial
            for name in chosen(arguments, platform(arguments.device, variables)):
                ends[name] = "interrupted"
                ends[name] = run(name, arguments.quick, variables)
    except KeyboardInterrupt:
        print("\nInterrupted. What was saved stays, and `--tables` shows it.")
        status = INTERRUPTED
    print("\n" + "\n".join(f"{name:13} {end}" for name, end in ends.items()))
    return status or int(any(end.startswith("failed") for end in ends.values()))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:  # while an environment was made, or pages were written
        sys.exit(INTERRUPTED)
