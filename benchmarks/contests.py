"""Contestants side by side on the same work: one step of as many evaluations.

    python -m benchmarks.contests sphere
    python -m benchmarks.contests mlp --contestants "zojax*" "shardes*" --rounds 31

Every contestant is a process of its own (`benchmarks.workers`); they take turns. One that cannot take part
is a row with the reason. Works and contestants that were not chosen keep their rows. There is no ratio of
rows of two runs, whose rounds did not see the same machine: name the floor, zojax and whom to compare.
"""

import argparse
import contextlib
import fnmatch
import math
import os
import statistics
import sys
import time
from functools import partial
from typing import NamedTuple

import jax

from benchmarks import measure
from benchmarks.rivals import RIVALS
from benchmarks.turns import SHORT
from benchmarks.workers import Failed, Worker

EVERY = list(RIVALS)
HOSTS = [name for name, rival in RIVALS.items() if rival.module == "search"]
DENSE = [name for name in EVERY if "low rank" not in name and name != "inference, batched"]
MANY = [n for n in EVERY if n not in ("inference", "shardes, regenerated", *HOSTS)]
MEZO = [
    *("inference", "zojax, signs", "zojax, normal", "zojax, low rank", "naive lax.map"),
    *("jax.grad", "jax.grad, checkpointed", "jvp", "evosax Open_ES"),
    *("shardes, regenerated", "PyTorch MeZO"),
]
FEW = ["inference", "zojax, signs", "naive lax.map", "PyTorch MeZO"]
POPULATION = [
    *("inference, batched", "zojax, low rank", "zojax, low rank, normal"),
    *("naive vmap", "naive lax.map", "evosax Open_ES", "evosax PGPE", "evosax SNES"),
    *("optax make_perturbed_fun", "shardes, low rank"),
]


class Entry(NamedTuple):
    """One work of a contest.

    Attributes:
      label: of its rows.
      work: as `works.make` takes it.
      contestants: names in `RIVALS`; the first is the floor.
      ours: the contestant that the others are compared with.
      note: what a reader must know of this work.
    """

    label: str
    work: dict
    contestants: list[str]
    ours: str
    note: str = ""


def _entry(label, name, settings, evaluations, contestants, ours="zojax, signs", note=""):
    work = {"name": name, "settings": settings, "evaluations": evaluations}
    return Entry(label, work, contestants, ours, note)


SMALL = {
    **{"batch": 1, "length": 32, "layers": 4, "width": 256, "hidden": 1024},
    **{"vocabulary": 2048, "heads": 4},
}
TINY = {**SMALL, "layers": 2, "width": 64, "hidden": 128, "vocabulary": 256}
LOW = "zojax, low rank"

CONTESTS = {
    "sphere": [
        _entry(f"{name}, d = {d:.0e}", name, {"d": d}, count, DENSE)
        for d, count in ((10**4, 256), (10**6, 256), (10**8, 16))
        for name in ("sphere", "rosenbrock")
    ],
    "mlp": [
        _entry(f"MLP, 256 members, {b} examples", "mlp", {"batch": b}, 256, MANY, LOW)
        for b in (1, 32)
    ],
    "mezo": [
        _entry(f"{name}, q = {q}", name, {}, 2 * q, FEW if q == 16 else MEZO)
        for name in ("model M", "SmolLM2")
        for q in (1, 4, 16)
    ],
    "transformers": [
        _entry(f"transformer, {n} members", "transformer", SMALL, n, POPULATION, LOW)
        for n in (64, 256, 1024, 4096)
    ],
    "convnet": [
        _entry(f"ConvNet, {n} members, 8 examples", "convnet", {}, n, POPULATION, LOW)
        for n in (64, 512)
    ],
}
QUICK = {
    "sphere": [
        _entry("sphere, d = 1e+03", "sphere", {"d": 1000}, 16, ["inference", "zojax, signs"])
    ],
    "mlp": [
        _entry(
            "MLP, 8 members",
            "mlp",
            {"batch": 1, "widths": (32, 16, 10)},
            8,
            ["inference, batched", LOW, "shardes, low rank"],
            LOW,
        )
    ],
    "mezo": [_entry("transformer, q = 1", "transformer", TINY, 2, ["inference", "zojax, signs"])],
    "transformers": [
        _entry("transformer, 4 members", "transformer", TINY, 4, ["inference, batched", LOW], LOW)
    ],
    "convnet": [
        _entry(
            "ConvNet, 4 members",
            "convnet",
            {"batch": 2, "channels": (4, 4, 4)},
            4,
            ["inference, batched", LOW],
            LOW,
        )
    ],
}
# Measured elsewhere on the MLP, by the authors' code, in multiples of plain inference; it is no package.
QUOTED = {
    "MLP, 256 members, 1 examples": ("HyperscaleES", "4.5 to 6.3"),
    "MLP, 256 members, 32 examples": ("HyperscaleES", "1.05 to 1.5"),
}


def run(entry: Entry, names: list[str], arguments) -> list[dict]:
    """Starts these contestants of a work, lets them take turns, and asks for their peaks."""
    workers, failures = {}, {}
    for name in names:
        print(f"{entry.label}: starting {name}", file=sys.stderr, flush=True)
        with _noting(failures, name):
            workers[name] = Worker(name, entry.work, arguments.limit, not arguments.quick)
    seconds = _in_turn(workers, failures, arguments)
    rows = []
    now = {"at": time.strftime("%Y-%m-%d %H:%M"), "processor": measure.processor()}
    now["commit"] = measure.commit()
    for name in names:
        row = _row(entry, name) | {"run": now}
        if name not in failures:
            with _noting(failures, name):
                row |= {"seconds": seconds[name], **workers[name].facts} | workers[name].close()
        if name in failures:
            row["failed"] = failures[name]
        rows.append(row)
        print(f"{entry.label} | {name} | {failures.get(name) or _time(row)}", flush=True)
    return rows


@contextlib.contextmanager
def _noting(failures: dict, name: str):
    """Whatever a contestant fails at, the reason is kept and the others go on."""
    try:
        yield
    except Failed as failure:
        failures[name] = str(failure)


def _in_turn(workers: dict[str, Worker], failures: dict, arguments) -> dict[str, list]:
    """Seconds of every round.

    One that takes very long has had its one step; the rest take as many turns as time allows, and those
    whose steps are short go on among themselves: few turns between gigabytes tell little of them.
    """
    first = {name: worker.facts["first"] for name, worker in workers.items()}
    patient = [name for name in workers if first[name] <= arguments.slow]
    each = sum(first[name] for name in patient)
    rounds = int(min(arguments.rounds, max(measure.FEW, arguments.budget / max(each, 1e-9))))
    turns = {n: arguments.rounds if first[n] < SHORT else rounds for n in patient}
    timers = {name: partial(_turn, name, workers[name], failures) for name in patient}
    return {name: [first[name]] for name in workers} | measure.in_turn(timers, turns)


def _turn(name: str, worker: Worker, failures: dict) -> float:
    """Seconds of a step; one that has failed takes none, and its row has no times."""
    if name not in failures:
        with _noting(failures, name):
            return worker.step()
    return math.nan


def _row(entry: Entry, name: str) -> dict:
    row = {"work": entry.label, "contestant": name, "evaluations": entry.work["evaluations"]}
    return row | {"ours": entry.ours, "floor": entry.contestants[0]}


def merged(entry: Entry, measured: list[dict], saved: list[dict]) -> list[dict]:
    """The rows of a work, in its order: those just measured, before those of an earlier run.

    Every contestant has one; what was measured elsewhere was so on a CPU.
    """
    found = {n: _row(entry, n) | {"failed": "not measured"} for n in entry.contestants}
    found |= {r["contestant"]: r for r in saved if r["work"] == entry.label}
    found |= {r["contestant"]: r for r in measured if r["work"] == entry.label}
    if entry.label in QUOTED and jax.default_backend() == "cpu":
        name, text = QUOTED[entry.label]
        found[name] = _row(entry, name) | {"quoted": text}
    return list(found.values())


def _time(row: dict) -> str:
    return f"{1e3 * statistics.median(row['seconds']):.4g} ms"


def table(rows: list[dict]) -> list[dict]:
    """What a reader sees: medians, ratios where they mean something, and reasons."""
    named = {(row["work"], row["contestant"]): row for row in rows}
    return [_line(row, named) for row in rows]


def compared(row: dict | None, other: dict | None) -> float | str:
    """How much longer one takes than another; nothing where one did not run."""
    if not _both(row, other):
        return ""
    if row.get("run") != other.get("run"):
        return "n/a (another run)"
    return measure.cautious(row["seconds"], other["seconds"])


def spread(row: dict | None, other: dict | None) -> str:
    """The quartiles of that ratio, where there were rounds to share."""
    if not _both(row, other) or row.get("run") != other.get("run"):
        return ""
    return measure.spread(row["seconds"], other["seconds"])


def _both(row: dict | None, other: dict | None) -> bool:
    return bool(row and other and "seconds" in row and "seconds" in other)


def _line(row: dict, named: dict) -> dict:
    work, taken = row["work"], row.get("seconds")

    def over(other):
        return compared(row, named.get((work, other)))

    def megabytes(key):
        return f"{row[key] / 1e6:.4g}" if row.get(key) else ""

    return {
        "work": work,
        "contestant": row["contestant"],
        "evaluations": _evaluations(row),
        "ms": 1e3 * statistics.median(taken) if taken else row.get("failed", "quoted"),
        "/ inference": row.get("quoted") or over(row["floor"]),
        f"/ {_short(row['ours'])}": over(row["ours"]),
        "quartiles": spread(row, named.get((work, row["ours"]))),
        "compile, s": row.get("compile_seconds") or "",
        "peak, MB": megabytes("peak"),
        "RSS, MB": megabytes("rss"),
        "device peak, MB": megabytes("device_peak"),
    }


def _evaluations(row: dict) -> int | str:
    """Of the loss; what derives it does something else."""
    count, rival = row["evaluations"], RIVALS.get(row["contestant"])
    if rival is None or not rival.exact:
        return count
    return f"{count // 2} jvps" if rival.module == "forward_gradient" else "gradient"


def _short(name: str) -> str:
    return name.replace(",", "")


def main(argv=None) -> None:
    arguments = _arguments(argv)
    # This process asks for the device, and must not hold what its contestants need.
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    entries = (QUICK if arguments.quick else CONTESTS)[arguments.contest]
    chosen = _chosen(entries, arguments)
    if arguments.dry or arguments.quick:
        rows = [row for entry, names in chosen for row in run(entry, names, arguments)]
    else:
        rows = measure.saved(arguments.contest)
        measure.ready(measure.results_folder())
        for entry, names in chosen:
            new = run(entry, names, arguments)
            rows = [row for e in entries for row in merged(e, new, rows)]
            measure.write(arguments.contest, rows)
    print(measure.markdown(table(rows)))


def _arguments(argv) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("contest", choices=CONTESTS)
    add("--rounds", type=measure.positive, default=15, help="at most")
    add(
        "--budget",
        type=float,
        default=30,
        help="seconds of a work's rounds, but five rounds at least",
    )
    add("--slow", type=float, default=40, help="seconds of a step beyond which one has to do")
    add("--limit", type=float, default=240, help="seconds until a contestant has taken a step")
    add("--works", nargs="+", default=["*"], help="patterns of labels; others keep their rows")
    add("--contestants", nargs="+", default=["*"], help="patterns of names")
    add("--quick", action="store_true", help="tiny works, printed only")
    add("--dry", action="store_true", help="print only")
    return parser.parse_args(argv)


def _chosen(entries: list[Entry], arguments) -> list[tuple[Entry, list[str]]]:
    """The works that were named, each with its contestants that were."""
    labels = _matching("--works", [e.label for e in entries], arguments.works)
    named = [entry for entry in entries if entry.label in labels]
    some = [name for entry in named for name in entry.contestants]
    names = _matching("--contestants", some, arguments.contestants)
    return [(entry, [n for n in entry.contestants if n in names]) for entry in named]


def _matching(option: str, names: list[str], patterns: list[str]) -> set[str]:
    """The names that match; a pattern that none matches is an error, most likely a slip."""
    for pattern in patterns:
        if not fnmatch.filter(names, pattern):
            known = ", ".join(map(repr, dict.fromkeys(names)))
            raise SystemExit(f"{option} {pattern!r} matches none of {known}.")
    return {name for pattern in patterns for name in fnmatch.filter(names, pattern)}


if __name__ == "__main__":
    main()
