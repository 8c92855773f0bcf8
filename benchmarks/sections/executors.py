"""The time of a trivial evaluation on each executor."""

from benchmarks.contestants import EXECUTORS
from benchmarks.sections.section import NAMED, Section, entry
from benchmarks.tables import by_work, filled

ALONE = "executor alone"
NAMES = ("threads", "processes", "loky", "Dask", "Ray")


def _executor(name: str, calls: int = 200, names=EXECUTORS):
    settings = {"executor": name, "calls": calls}
    return entry(name, "executor", settings, 1, names, [ALONE], together=False, turns=8)


def executors(rows: list[dict]) -> list[dict]:
    """Milliseconds of an evaluation, by executor and contestant."""
    return filled(
        [
            {"executor": work}
            | {
                f"{name}, ms": row.get("failed") or 1e3 * row["seconds"]["median"]
                for name, row in here.items()
            }
            for work, here in by_work(rows).items()
        ]
    )


SECTIONS = {
    "executors": Section(
        "a trivial evaluation on threads, processes, loky, Dask and Ray",
        NAMED,
        executors,
        [_executor(name) for name in NAMES],
        [_executor("threads", 20)],
    ),
}
