"""The race of methods: equal evaluations, one grid of learning rates, five seeds."""

import math

import numpy as np

from benchmarks.races import WORKS
from benchmarks.sections.section import NAMED, Section, entry
from benchmarks.tables import filled
from zojax.examples._methods import METHODS
from zojax.examples._race import RATES, reached

EVALUATIONS = 2000
# MeZO, the six zeroth-order families with the best mean rank on the small works, and backpropagation.
BEST = (
    *("mezo", "eggroll, rank 4", "meazo", "ars", "conmezo", "mezo, normal", "zo_sgd, momentum"),
    "backpropagation, adam",
)


def _race(loss: str, method: str, evaluations: int = EVALUATIONS, points: int = 20):
    settings = {"loss": loss, "method": method, "evaluations": evaluations, "points": points}
    return entry(f"{loss}, {method}", "race", settings, 1, ["a method"], turns=1)


def methods(rows: list[dict]) -> list[dict]:
    """Test loss of each method at its best rate, best first, and its evaluations to MeZO's final loss."""
    lines = []
    for loss in WORKS:
        here = [row for row in rows if row.get("loss") == loss]
        goal = next((row["curve"][-1] for row in here if row["method"] == "mezo"), math.nan)
        lines += [_line(row, goal) for row in sorted(here, key=_order)]
    return filled(lines + [{"loss": row["work"], "method": row["failed"]} for row in _failed(rows)])


def _failed(rows: list[dict]) -> list[dict]:
    return [row for row in rows if row.get("failed", "not measured") != "not measured"]


def _line(row: dict, goal: float) -> dict:
    first = reached(row["at"], row["curve"], goal)
    edge = ", at the edge" * (row["rate"] in (RATES[0], RATES[-1]))
    return {
        "loss": row["loss"],
        "method": row["method"],
        "test": float(np.mean(row["test"])),
        "sd": float(np.std(row["test"], ddof=1)),
        "evaluations to MeZO's loss": "never" if first is None else first,
        "rate": f"{row['rate']:.1e}{edge}",
        "state / parameters": float(row["state"]),
        "CPU s of all runs": row["cpu_seconds"],
    }


def _order(row: dict) -> float:
    test = float(np.mean(row.get("test", np.inf)))
    return test if math.isfinite(test) else math.inf


def _on_reviews(params: str, method: str, evaluations: int = 256, seeds: int = 3):
    """Trials of six rates with a quarter of the evaluations each, then the seeds."""
    settings = {"trained": params, "method": method, "evaluations": evaluations, "seeds": seeds}
    label = f"SmolLM2 on reviews, {params}, {method}"
    settings |= {"reviews": 384, "batch": 2}
    return entry(label, "race on reviews", settings, 1, ["a method on reviews"], turns=1)


def on_reviews(rows: list[dict]) -> list[dict]:
    """Held-out loss of each method at its best rate, best first."""
    lines = [
        {
            "trained": row["trained"],
            "method": row["method"],
            "before": row["before"],
            "held out": float(np.mean(row["test"])),
            "sd": float(np.std(row["test"], ddof=1)),
            "rate": f"{row['rate']:.0e}",
            "CPU s of all runs": row["cpu_seconds"],
        }
        for row in sorted(rows, key=lambda row: (row.get("trained", ""), _order(row)))
        if "test" in row
    ]
    failed = [{"trained": row["work"], "method": row["failed"]} for row in _failed(rows)]
    return filled(lines + failed)


SECTIONS = {
    "methods-reviews": Section(
        "the best methods of the race, MeZO and backpropagation on SmolLM2",
        NAMED,
        on_reviews,
        [_on_reviews(params, method) for params in ("shifts", "lora") for method in BEST],
        [_on_reviews("shifts", "mezo", 8, 1)],
    ),
    "methods": Section(
        "all methods at equal evaluations, on five works",
        NAMED,
        methods,
        [_race(loss, method) for loss in WORKS for method in METHODS],
        [_race("digits", "mezo", 60, 2)],
    ),
}
