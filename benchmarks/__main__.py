"""Everything that this machine can measure: `python -m benchmarks [SECTION ...]`.

    python -m benchmarks                         all sections that fit this machine
    python -m benchmarks --device gpu            what matters on a GPU, in eight minutes
    python -m benchmarks mlp mezo                some
    python -m benchmarks mezo --only "model M*"  some works, --contestants for some contestants
    python -m benchmarks --quick                 tiny works in a minute, nothing kept: does it run?
    python -m benchmarks --tables                tables and pictures again from results/
    python -m benchmarks --list                  the sections

A section that fails is a line in the summary, and the rest goes on. Works and contestants that were not
chosen keep their rows.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import environments, harness, page, store, worker
from benchmarks.sections import SECTIONS
from benchmarks.sections.section import Section

INTERRUPTED = 130  # exit status, as shells have it


def positive(text: str) -> int:
    """An option that counts: at least one."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of times.")
    return int(text)


def arguments(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("sections", nargs="*", metavar="SECTION", help="by default all that fit this machine")
    add("--quick", action="store_true", help="tiny works; nothing is kept")
    add("--only", nargs="+", default=["*"], metavar="PATTERN", help="works by name")
    add("--contestants", nargs="+", default=["*"], metavar="PATTERN", help="contestants by name")
    add("--missing", action="store_true", help="only what has no row yet: continue a long section")
    add("--rounds", type=positive, help="turns of a contestant, at most; runs of a search")
    add("--budget", type=float, help="seconds of a work's turns (30); five are taken anyway")
    add("--minutes", type=float, help="no contestant starts after so many; on a GPU 8 by default")
    add("--slow", type=float, default=40, help="seconds of a step beyond which one has to do")
    add("--limit", type=float, default=240, help="seconds until a contestant has taken a step")
    add("--device", choices=("cpu", "gpu", "tpu"), help="by default the one that JAX finds")
    add("--target", default="", choices=("", "tpu-v5e", "h100"), help="a device to compile for")
    add("--results", type=Path, default=store.RESULTS, help="the folder of results")
    add("--dry", action="store_true", help="nothing is kept")
    add("--list", action="store_true", help="the sections")
    add("--tables", action="store_true", help="tables and pictures only, nothing is measured")
    add("--make", choices=environments.ENVIRONMENTS, help="make a contestant's environment")
    given = parser.parse_args(argv)
    for name in given.sections:
        if name not in SECTIONS:
            parser.error(f"section {name!r} is none of {', '.join(SECTIONS)}.")
    if given.tables and (given.sections or given.quick or given.device):
        parser.error("--tables measures nothing, and is of every section and device.")
    return given


def main(argv=None) -> int:
    given = arguments(argv)
    if given.list:
        print("\n".join(_listed(name, section) for name, section in SECTIONS.items()))
        return 0
    if given.make:
        print(environments.python_of(given.make))
        return 0
    if given.tables:
        page.check(given.results)
        page.write(given.results)
        return 0
    if given.quick or given.dry:
        with tempfile.TemporaryDirectory() as trial:
            return measure(given, Path(trial))
    store.check(given.results)
    page.check(given.results)
    status = measure(given, given.results)
    if status != INTERRUPTED:
        page.write(given.results)
    return status


def _listed(name: str, section: Section) -> str:
    devices = {("cpu",): "", ("gpu",): " (on a GPU)"}
    return f"{name:13} {section.about}{devices.get(section.devices, ' (by name only)')}"


def measure(given: argparse.Namespace, results: Path) -> int:
    """Runs the sections; returns the exit status."""
    ends, status = {}, 0
    try:
        start, device = time.monotonic(), found_device(given.device)
        minutes = given.minutes or (
            {"gpu": 8}.get(device["backend"]) if not given.sections else None
        )
        until = start + 60 * minutes if minutes else math.inf
        for name in given.sections or fitting(device["backend"], given.quick):
            ends[name] = "interrupted"
            ends[name] = run(name, given, results, device, until)
    except KeyboardInterrupt:
        print("\nInterrupted. Finished works are saved; `--tables` shows them.")
        status = INTERRUPTED
    print("\n" + "\n".join(f"{name:13} {end}" for name, end in ends.items()))
    return status or int(any(end.startswith("failed") for end in ends.values()))


def fitting(backend: str, quick: bool = False) -> list[str]:
    """The sections that run on a device without being named; quick works, of every device."""
    return [n for n, s in SECTIONS.items() if backend in s.devices or quick and s.devices]


def found_device(wanted: str | None) -> dict:
    """Backend, name and JAX version, asked in another process: this one must not hold a GPU."""
    ask = "import json, jax; d = jax.devices()[0]; print(json.dumps(dict(backend="
    ask += "jax.default_backend(), device=d.device_kind, jax=jax.__version__)))"
    command = [sys.executable, "-c", ask]
    variables = os.environ | _platforms(wanted) | {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    if done.returncode and wanted:
        raise SystemExit(f"--device {wanted}: no {wanted} found by JAX.")
    if done.returncode:
        raise SystemExit(f"JAX finds no device: {done.stderr.strip().splitlines()[-1]}")
    return json.loads(done.stdout)


def _platforms(wanted: str | None) -> dict:
    return {"JAX_PLATFORMS": {"gpu": "cuda,cpu"}.get(wanted, wanted)} if wanted else {}


def run(name: str, given: argparse.Namespace, results: Path, device: dict, until: float) -> str:
    """Runs a section and saves it after each work, or contestant; returns how it ended."""
    section, start = SECTIONS[name], time.perf_counter()
    print(f"\n== {name}: {section.about}", flush=True)
    device = device | {"device": given.target or device["device"]}
    folder = store.folder_of(results, device["device"])
    try:
        contests(name, section, given, folder, device, until)
    except Exception as error:  # the other sections go on
        return f"failed: {worker.reason_of(error)}"
    return f"{time.perf_counter() - start:.0f} s"


def contests(name, section: Section, given, folder: Path, device: dict, until: float) -> None:
    rounds, budget = (15, 30) if math.isinf(until) else (7, 5)
    options = harness.Options(
        rounds=given.rounds or (3 if given.quick else rounds),
        budget=given.budget or budget,
        slow=given.slow,
        limit=given.limit,
        make=not given.quick,
        platform=device["backend"],
        target=given.target,
        variables=_platforms(given.device),
        until=until,
    )
    entries = section.quick if given.quick else section.entries
    store.check(folder)
    rows = store.load(folder, name)
    chosen = harness.chosen(entries, given.only, given.contestants)
    for entry, names in harness.missing(chosen, rows) if given.missing else chosen:
        if given.rounds and entry.turns:
            entry = entry._replace(turns=given.rounds)
        for group in harness.groups(entry, names):
            new = harness.contest(entry, group, options)
            rows = [row for each in entries for row in harness.merged(each, new, rows)]
            store.save(folder, name, rows, device)
        shown = [r for r in rows if r["work"] == entry.label and r["contestant"] in names]
        print(store.markdown(section.table(shown)), flush=True)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:  # while an environment was made, or pages were written
        sys.exit(INTERRUPTED)
