"""Low precision: curves of bfloat16 beside float32, and the cost of a step."""

import numpy as np

from benchmarks.contestants import PRECISIONS
from benchmarks.sections.section import CPU, NAMED, Section, entry
from benchmarks.tables import beside, over, peak_of

MEZO = ["forward", "step of mezo"]
ROUNDED = ["step of mezo, stochastic rounding", "step of mezo, compensated rounding"]
QUANTISED = ["forward", "step of qzo, stochastic rounding", "step of qes"]
SEED = ", seed "  # of a work whose seeds have a row each
WEIGHTS = {"float32": MEZO, "bfloat16": [*MEZO, *ROUNDED], "4-bit": QUANTISED}


def _digits(hidden, **settings):
    settings |= {"task": "digits", "shape": {"widths": (64, hidden, 10)}, "one_start": False}
    settings |= {"rate": 2e-4, "mu": 1e-2, "seed": 0}
    return entry("digits", "precision", settings, 1, PRECISIONS, turns=1)


def _transformer(rate, one_start):
    """Model M's layers, four of width 256. A low rate makes updates that bfloat16 cannot hold."""
    settings = {"task": "transformer", "shape": {"layers": 4, "width": 256}, "one_start": one_start}
    settings |= {"rate": float(rate), "mu": 3e-3, "steps": 160, "points": 4, "seeds": 4, "seed": 0}
    label = f"transformer, 3.2 million weights, rate {rate}" + ", one start" * one_start
    return entry(label, "precision", settings, 1, PRECISIONS, turns=1)


def _model_m(seed):
    """A seed is a work, and a contestant runs alone: each training is stored as it ends."""
    shape = {"layers": 12, "width": 1024, "vocabulary": 8192, "heads": 16, "batch": 2}
    settings = {"task": "lines", "shape": shape, "one_start": True, "seed": seed}
    settings |= {"rate": 2e-7, "mu": 3e-3, "steps": 96, "points": 3, "seeds": 1}
    label = f"model M, 159 million weights{SEED}{seed}"
    return entry(label, "precision", settings, 1, PRECISIONS, turns=1, together=False)


def _step(weights, names, **settings):
    settings = {"weights": weights, **settings}
    return entry(f"SmolLM2, {weights}", "SmolLM2 on reviews", settings, 2, names, turns=0)


def _training(weights, evaluations=64, seed=0):
    settings = {"weights": weights, "evaluations": evaluations, "seed": seed}
    label = f"SmolLM2 on reviews, {weights}"
    if evaluations != 64:
        label += f", {evaluations} evaluations{SEED}{seed}"
    return entry(label, "fine-tuning", settings, 1, ["a precision on reviews"], turns=1)


def curves(rows: list[dict]) -> list[dict]:
    """Mean and standard deviation over seeds of the last loss, and the distance from float32."""
    lines, found = [], _of_seeds(rows)
    for (work, name), here in found.items():
        losses, before = (_joined(here, column) for column in ("validation loss", "before"))
        wide = _joined(found.get((work, "train float32"), []), "validation loss")
        line: dict = {"trained": work, "weights": name.removeprefix("train ")}
        line |= {"loss before": before.mean(), "seeds": len(losses)}
        line |= {"falls by": (before - losses[:, -1]).mean()} | _spread(losses[:, -1])
        if len(losses) == len(wide) > 1:
            apart = (losses - wide).mean(axis=0) / wide.std(axis=0, ddof=1)
            line["last from float32, in its std"] = abs(float(apart[-1]))
            line["farthest"] = float(np.max(np.abs(apart)))
        lines.append(line)
    return lines


def _of_seeds(rows: list[dict]) -> dict[tuple, list[dict]]:
    """The rows of all seeds, by work and contestant."""
    found: dict[tuple, list[dict]] = {}
    for row in rows:
        if "failed" not in row:
            found.setdefault((row["work"].split(SEED)[0], row["contestant"]), []).append(row)
    return found


def _joined(rows: list[dict], column: str) -> np.ndarray:
    return np.array([loss for row in rows for loss in row[column]])


def _spread(losses: np.ndarray) -> dict:
    return {"loss after": losses.mean(), "std": losses.std(ddof=1) if len(losses) > 1 else ""}


def costs(rows: list[dict]) -> list[dict]:
    """Peaks by the compiler."""
    return [
        {
            "weights": work.removeprefix("SmolLM2, "),
            "program": name.removeprefix("step of "),
            "parameters, MB": row["parameters"] / 1e6 if "parameters" in row else "",
            "peak, MB": peak_of(row, 1e6),
            "peak / forward's": over(row.get("peak"), floor.get("peak")),
        }
        for work, name, row, floor in beside(rows, "forward")
    ]


def trainings(rows: list[dict]) -> list[dict]:
    """Held-out losses around each training, and the cost of its step."""
    lines = []
    for here in _of_seeds(rows).values():
        line = {"weights": here[0]["weights"], "steps": here[0]["steps"], "seeds": len(here)}
        line |= {"loss before": here[0]["before"]}
        line |= _spread(np.array([row["after"] for row in here]))
        line |= {"CPU s a step": float(np.median([row["cpu_seconds"] for row in here]))}
        line |= {"parameters, MB": here[0]["parameters"] / 1e6}
        lines.append(line | {"peak of a step, MB": here[0]["peak"] / 1e6})
    return lines


SECTIONS = {
    "low-precision-reviews": Section(
        "SmolLM2 on reviews in float32, bfloat16 and 4 bits",
        NAMED,
        trainings,
        [
            *map(_training, ("float32", "bfloat16", "scales", "integers")),
            *(_training("integers", 160, seed) for seed in range(3)),
        ],
        [_training("scales", 2)],
    ),
    "precision": Section(
        "bfloat16 beside float32: loss curves of the digits and of a transformer",
        CPU,
        curves,
        [
            _digits(128, steps=8000, points=5, seeds=5),
            _transformer("3e-5", one_start=False),
            _transformer("3e-6", one_start=True),
            *map(_model_m, range(4)),
        ],
        [_digits(8, steps=4, points=2, seeds=2)],
    ),
    "low-precision": Section(
        "a fine-tuning step of SmolLM2 in float32, bfloat16 and 4 bits",
        CPU,
        costs,
        [_step(weights, names) for weights, names in WEIGHTS.items()],
        [_step("4-bit", QUANTISED[:1], batch=1, length=4)],
    ),
}
