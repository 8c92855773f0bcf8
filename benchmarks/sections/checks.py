"""Reliability, leaks, and the shape of the source code."""

from benchmarks.sections.section import NAMED, Section, entry

CHECKS = {
    "interrupts": (300, "Ctrl-C at random moments of a recorded run"),
    "full disks": (60, "writes of a log that fail at random offsets"),
    "kills": (20, "SIGKILL at random moments of a recorded run"),
    "damaged logs": (5000, "logs with random bytes changed, cut or repeated"),
    "hostile files": (500, "configs, tokenizers, weights and JSONL, mutated"),
    "failing models": (30, "attacked models that raise at some query"),
    "estimates": (300, "random estimators beside NumPy, float64"),
    "arguments": (1500, "hostile values for each argument of everything public"),
}
PACKAGES = ("zojax", "optax", "optimistix", "blackjax", "quax", "equinox")


def _check(name: str, runs: int):
    return entry(name, "check", {"check": name, "runs": runs, "seed": 0}, 1, ["zojax"], turns=1)


def _package(name: str):
    return entry(name, "code", {"package": name}, 1, ["source code"], turns=1)


def reliability(rows: list[dict]) -> list[dict]:
    return [
        {
            "check": row["work"],
            "cases": CHECKS[row["work"]][1],
            "runs": row.get("counts", {}).get("runs", ""),
            "outcome": row.get("failed")
            or ", ".join(f"{n} {what}" for what, n in row["counts"].items() if what != "runs"),
            "s": row["seconds"]["median"] if "seconds" in row else "",
        }
        for row in rows
    ]


def leaks(rows: list[dict]) -> list[dict]:
    """What each entry point leaves behind after its calls, garbage collected."""
    return [line for row in rows for line in row.get("growth", [])]


def code(rows: list[dict]) -> list[dict]:
    """Sizes and shares of source code; see `benchmarks.contestants.code`."""
    return [{"package": row["work"]} | row.get("code", {}) for row in rows]


SECTIONS = {
    "reliability": Section(
        "interrupts, hostile inputs, random estimators",
        NAMED,
        reliability,
        [_check(name, runs) for name, (runs, _) in CHECKS.items()],
        [_check(name, -(-runs // 30)) for name, (runs, _) in CHECKS.items()],
    ),
    "leaks": Section(
        "memory that calls leave behind",
        NAMED,
        leaks,
        [_check("leaks", 1000)],
        [_check("leaks", 5)],
    ),
    "code": Section(
        "sizes, annotations and comments of source code",
        NAMED,
        code,
        [_package(name) for name in PACKAGES],
        [_package("benchmarks")],
    ),
}
