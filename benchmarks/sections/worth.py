"""The worth of a step: the cosine to the gradient, and loss curves."""

from benchmarks.contestants import COSINES, TRAININGS
from benchmarks.sections.section import CPU, Section, entry, plural


def _cosines(n: int, names=COSINES):
    settings = {"batch": 32, "widths": (64, 32, 10)}
    return entry(plural(n, "direction"), "mlp", settings, 2 * n, names)


def _curves(label, data, evaluations, points, names):
    """Fine-tuning on a data set; the loss is recorded at some points."""
    settings = {"data": data, "evaluations": evaluations, "points": points}
    return entry(label, "training", settings, 1, names, turns=1)


def cosine(rows: list[dict]) -> list[dict]:
    """The share of the squared gradient that an evaluation, or a second, finds."""
    lines = []
    for row in rows:
        if "cosine" in row:
            square, seconds = row["cosine^2"], row["seconds"]["median"]
            lines.append(
                {
                    "direction": row["contestant"].removeprefix("direction "),
                    "directions": row["evaluations"] // 2,
                    "cosine": row["cosine"],
                    "cosine^2": square,
                    "standard error": row["standard error"],
                    "cosine^2 / evaluation": square / row["evaluations"],
                    "ms": 1e3 * seconds,
                    "cosine^2 / second": square / seconds,
                }
            )
    return lines


def quality(rows: list[dict]) -> list[dict]:
    """Both ends of each loss curve."""
    return [
        {
            "optimizer": row["contestant"].removeprefix("train "),
            "evaluations": row["evaluations"][-1],
            "seconds": row["clock"][-1],
            "loss before": row["validation loss"][0],
            "loss after": row["validation loss"][-1],
        }
        for row in rows
        if "clock" in row
    ]


SECTIONS = {
    "cosine": Section(
        "cosine to the true gradient",
        CPU,
        cosine,
        [_cosines(n) for n in (1, 16, 256)],
        [_cosines(64, ["direction rademacher"])],
    ),
    "quality": Section(
        "loss curves of SmolLM2 on reviews",
        CPU,
        quality,
        [_curves("SmolLM2 on reviews", "reviews", 480, 8, TRAININGS)],
        [_curves("digits", "digits", 8, 2, ["train mezo"])],
    ),
}
