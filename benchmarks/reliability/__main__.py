"""What goes wrong under interrupts, kills, full disks, damaged and hostile files, random inputs, long use.

    python -m benchmarks.reliability                 all of it, some 20 minutes on 2 cores
    python -m benchmarks.reliability --quick         a tenth of the runs, nothing kept
    python -m benchmarks.reliability --only kills    one section

Every count beside the runs is meant to be 0, except those of inputs that were rightly refused or accepted.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from benchmarks import measure
from benchmarks.reliability import arguments, estimates, files, leaks, logs, models


class Section(NamedTuple):
    """Attributes:
    run: (runs, seed) -> counts by name.
    runs: of a full run.
    about: one line.
    """

    run: Callable[[int, int], dict[str, int]]
    runs: int
    about: str


SECTIONS = {
    "interrupts": Section(logs.interrupts, 300, "Ctrl-C at random moments of a recorded run"),
    "full disks": Section(logs.full_disks, 60, "writes of a log that fail at random offsets"),
    "kills": Section(logs.kills, 20, "SIGKILL at random moments of a recorded run"),
    "damaged logs": Section(logs.damaged, 5000, "logs with random bytes changed, cut or repeated"),
    "hostile files": Section(files.hostile, 500, "configs, tokenizers, weights and JSONL, mutated"),
    "failing models": Section(
        models.model_failures, 30, "attacked models that raise at some query"
    ),
    "estimates": Section(
        estimates.random_estimates, 300, "random estimators beside NumPy, float64"
    ),
    "arguments": Section(
        arguments.invalid_arguments, 1500, "hostile values for each argument of everything public"
    ),
}
LEAKS = "leaks"
CALLS = 1000


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--only", nargs="+", choices=[*SECTIONS, LEAKS], help="sections")
    add("--quick", action="store_true", help="a tenth of the runs, nothing kept")
    add("--seed", type=int, default=0)
    options = parser.parse_args(argv)
    names = options.only or [*SECTIONS, LEAKS]
    share = 10 if options.quick else 1
    with tempfile.TemporaryDirectory() as trial:
        if options.quick:
            measure.RESULTS = Path(trial)
        for name in names:
            if name == LEAKS:
                measure.save(LEAKS, leaks.leaks(CALLS // share))
            else:
                _save(_row(name, share, options.seed))
    return 0


def _row(name: str, share: int, seed: int) -> dict:
    section, start = SECTIONS[name], time.perf_counter()
    counts = section.run(-(-section.runs // share), seed)
    outcome = ", ".join(f"{count} {what}" for what, count in counts.items() if what != "runs")
    row = {"section": name, "what": section.about, "runs": counts["runs"], "outcome": outcome}
    return row | {"s": time.perf_counter() - start}


def _save(row: dict) -> None:
    """Writes a row among those of the other sections, in the sections' order, and prints the table."""
    rows = {r["section"]: r for r in measure.saved("reliability")} | {row["section"]: row}
    measure.save("reliability", [rows[name] for name in SECTIONS if name in rows])


if __name__ == "__main__":
    sys.exit(main())
