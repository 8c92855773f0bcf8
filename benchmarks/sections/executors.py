"""The time of a trivial evaluation on each executor."""

from itertools import starmap

from benchmarks.contestants import EXECUTORS
from benchmarks.sections.section import NAMED, Section, entry
from benchmarks.tables import by_work

ALONE = "executor alone"
# Calls of a step, about a second.
CALLS = {"threads": 1000, "processes": 500, "loky": 500, "Dask": 50, "Ray": 200, "Ray actors": 200}


def _executor(name: str, calls: int):
    settings = {"executor": name, "calls": calls}
    return entry(name, "executor", settings, 1, EXECUTORS, [ALONE], turns=8)


def executors(rows: list[dict]) -> list[dict]:
    """Milliseconds of an evaluation, by executor and contestant: by the clock, and of CPU time."""
    return [{"executor": work} | _cells(here) for work, here in by_work(rows).items()]


def _cells(rows: dict[str, dict]) -> dict:
    cells = {}
    for name, row in rows.items():
        if "failed" in row:
            cells[f"{name}, ms"] = row["failed"]
            continue
        each = 1e3 / row["amount"]
        cells[f"{name}, ms"] = each * row["seconds"]["median"]
        cells[f"{name}, CPU ms"] = each * row["cpu_seconds"]
    return cells


SECTIONS = {
    "executors": Section(
        "a trivial evaluation on threads, processes, loky, Dask and Ray",
        NAMED,
        executors,
        list(starmap(_executor, CALLS.items())),
        [_executor("threads", 20)],
    ),
}
