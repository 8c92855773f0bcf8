"""The race of methods: equal evaluations, one grid of learning rates, five seeds."""

import math

import numpy as np

from benchmarks.races import WORKS
from benchmarks.sections.section import NAMED, Section, entry
from zojax.examples._methods import METHODS
from zojax.examples._race import RATES, reached

EVALUATIONS = 2000
EQUAL = "equal layers"
# MeZO, the six other optimizers with the best mean rank on the small works, and backpropagation.
BEST = (
    "mezo",
    "backpropagation, adam",
    "meazo",
    "eggroll, rank 4",
    "ars",
    "conmezo",
    "zo_sgd, momentum",
    "fzoo",
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
    return lines + [{"loss": row["work"], "method": row["failed"]} for row in _failed(rows)]


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


def _on_reviews(params: str, method: str, evaluations: int = 384, seeds: int = 3):
    """Trials of four rates with a quarter of the evaluations each, then the seeds."""
    settings = {"trained": params, "method": method, "evaluations": evaluations, "seeds": seeds}
    label = f"SmolLM2 on reviews, {params}, {method}"
    settings |= {"reviews": 768, "batch": 2, "points": 2}
    return entry(label, "race on reviews", settings, 1, ["a method on reviews"], turns=1)


def on_reviews(rows: list[dict]) -> list[dict]:
    """Held-out loss of each method at its best rate, best first."""
    lines = []
    for trained in ("shifts", "lora"):
        here = [row for row in rows if row.get("trained") == trained]
        goal = next((row["curve"][-1] for row in here if row["method"] == "mezo"), math.nan)
        for row in sorted(here, key=_order):
            first = reached(row["at"], row["curve"], goal)
            line = {"trained": trained, "method": row["method"], "before": row["curve"][0]}
            line |= {"held out": float(np.mean(row["test"]))}
            losses = row["by rate"]
            edge = ", at the edge" * (np.nanmin(losses) in (losses[0], losses[-1]))
            line |= {"sd": float(np.std(row["test"], ddof=1)), "rate": f"{row['rate']:.0e}{edge}"}
            line |= {"evaluations to MeZO's loss": "never" if first is None else first}
            line |= {"state / parameters": row["state"], "GB of all runs": row["rss"] / 1e9}
            lines.append(line | {"CPU s of all runs": row["cpu_seconds"]})
    failed = [{"trained": row["work"], "method": row["failed"]} for row in _failed(rows)]
    return lines + failed


SECTIONS = {
    "methods-reviews": Section(
        "the best methods of the race, MeZO and backpropagation on SmolLM2",
        NAMED,
        on_reviews,
        [_on_reviews(params, method) for params in ("shifts", "lora") for method in BEST],
        [_on_reviews("shifts", "mezo", 8, 1)],
    ),
    "tied-noise": Section(
        "one stream of noise for layers of equal shapes, beside independent noise",
        NAMED,
        methods,
        [_race(EQUAL, method) for method in ("mezo", "mezo, normal", "mezo, tied noise")],
        [_race(EQUAL, "mezo, tied noise", 60, 2)],
    ),
    "methods": Section(
        "all methods at equal evaluations, on five works",
        NAMED,
        methods,
        [_race(loss, method) for loss in WORKS for method in METHODS if loss != EQUAL],
        [_race("digits", "mezo", 60, 2)],
    ),
}
