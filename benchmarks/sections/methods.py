"""The race of methods: equal evaluations, one grid of learning rates, five seeds."""

import math
from collections.abc import Collection
from functools import partial

import numpy as np

from benchmarks.races import WORKS
from benchmarks.sections.section import NAMED, Section, entry
from zojax.examples._methods import METHODS
from zojax.examples._race import reached

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


def _races(rows: list[dict], what: str, names: Collection[str], test: str) -> list[dict]:
    """Each method at its best rate, best first, and its evaluations to MeZO's final loss."""
    lines = []
    for name in names:
        here = [row for row in rows if row.get(what) == name]
        goal = next((row["curve"][-1] for row in here if row["method"] == "mezo"), math.nan)
        for row in sorted(here, key=_order):
            first, losses = reached(row["at"], row["curve"], goal), row["by rate"]
            edge = ", at the edge" * (np.nanmin(losses) in (losses[0], losses[-1]))
            line = {what: name, "method": row["method"]}
            line |= {"before": row["curve"][0]} if "trained" in row else {}
            line |= {test: float(np.mean(row["test"])), "sd": float(np.std(row["test"], ddof=1))}
            line |= {"evaluations to MeZO's loss": "never" if first is None else first}
            line |= {"rate": f"{row['rate']:.1e}{edge}", "state / parameters": float(row["state"])}
            line |= {"GB of all runs": row["rss"] / 1e9} if "trained" in row else {}
            lines.append(line | {"CPU s of all runs": row["cpu_seconds"]})
    failed = [row for row in rows if row.get("failed", "not measured") != "not measured"]
    return lines + [{what: row["work"], "method": row["failed"]} for row in failed]


methods = partial(_races, what="loss", names=WORKS, test="test")
on_reviews = partial(_races, what="trained", names=("shifts", "lora"), test="held out")


def _order(row: dict) -> float:
    test = float(np.mean(row.get("test", np.inf)))
    return test if math.isfinite(test) else math.inf


def _on_reviews(params: str, method: str, evaluations: int = 384, seeds: int = 3):
    """Trials of four rates with a quarter of the evaluations each, then the seeds."""
    settings = {"trained": params, "method": method, "evaluations": evaluations, "seeds": seeds}
    label = f"SmolLM2 on reviews, {params}, {method}"
    settings |= {"reviews": 768, "batch": 2, "points": 2}
    return entry(label, "race on reviews", settings, 1, ["a method on reviews"], turns=1)


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
