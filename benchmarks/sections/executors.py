"""The time of a trivial evaluation on each executor."""

from benchmarks.contestants import EXECUTORS
from benchmarks.sections.section import NAMED, Section, entry
from benchmarks.tables import by_work, filled

ALONE = "executor alone"
NAMES = ("threads", "processes", "loky", "Dask", "Ray", "Ray actors")


def _executor(name: str, calls: int = 200, names=EXECUTORS):
    return entry(name, "executor", {"executor": name, "calls": calls}, 1, names, [ALONE], turns=11)


def executors(rows: list[dict]) -> list[dict]:
    """Milliseconds of an evaluation, by executor and contestant: by the clock, and of CPU time."""
    return filled([{"executor": work} | _cells(here) for work, here in by_work(rows).items()])


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
        [_executor(name) for name in NAMES],
        [_executor("threads", 20)],
    ),
}
