"""Black-box attacks beside the Adversarial Robustness Toolbox (ART)."""

from benchmarks.sections.section import NAMED, Section, entry
from benchmarks.tables import rates

KEYS = ("name", "norm", "eps", "images", "budget", "step", "enough", "epochs", "data")
DEFAULTS = {"step": None, "enough": None, "epochs": 15, "data": "mnist"}


def attack(*values, contestants=("attack by zojax", "attack by ART")):
    """`enough`: fewer queries of zojax, for the success that ART has with all of them."""
    settings = DEFAULTS | dict(zip(KEYS, values, strict=False))
    names = [*contestants, *["attack by zojax, fewer queries"] * bool(settings["enough"])]
    label = f"{settings['name']}, {settings['norm']}, eps {settings['eps']}"
    return entry(label, "attack", settings, 1, names, ["attack by ART"], turns=2)


def attacks(rows: list[dict]) -> list[dict]:
    """Success and queries of all images, solved or not."""
    return [
        {
            "attack": row["work"],
            "by": row["contestant"].removeprefix("attack by "),
            "budget": row.get("budget", ""),
            "success": row.get("success", row.get("failed", "")),
            "queries / image": row.get("queries", ""),
            "images / s": line.get("per second", ""),
            "speed / ART": row.get("speed", line.get("speed over base", "")),
        }
        for line, row in zip(rates(rows), rows, strict=True)
    ]


BUDGETS = (250, 1000, 5000)


def from_labels(name, norm, images=10, budgets=BUDGETS, epochs=5, by=("zojax", "ART")):
    settings = dict(
        name=name, norm=norm, images=images, budgets=budgets, epochs=epochs, data="mnist"
    )
    return entry(
        f"{name}, {norm}", "attack", settings, 1, [f"labels by {one}" for one in by], turns=1
    )


def distances(rows: list[dict]) -> list[dict]:
    """Median distances by budget."""
    return [
        {"attack": row["work"], "by": row["contestant"].removeprefix("labels by ")}
        | row.get("distances", {"failed": row.get("failed", "")})
        for row in rows
    ]


SECTIONS = {
    "label-attacks": Section(
        "attacks from labels beside ART",
        NAMED,
        distances,
        [
            from_labels("hop_skip_jump", "l2"),
            from_labels("sign_opt", "l2"),
            from_labels("geoda", "l2"),
            from_labels("hop_skip_jump", "linf"),
            from_labels("sign_opt", "linf", by=["zojax"]),
            from_labels("geoda", "linf"),
        ],
        [from_labels("hop_skip_jump", "l2", 4, (20,), 1, by=["zojax"])],
    ),
    "attacks": Section(
        "attacks beside ART",
        NAMED,
        attacks,
        [
            attack("square", "linf", 0.3, 100, 1000),
            attack("square", "linf", 0.2, 100, 1000),
            attack("square", "linf", 0.1, 100, 1000, None, 700),
            attack("square", "l2", 3.0, 100, 1000, None, 400),
            attack("square", "l2", 2.0, 100, 1000, None, 300),
            attack("simba", "l2", 3.0, 100, 2000, 0.2),
            attack("simba_dct", "l2", 3.0, 100, 1000, 0.2),
            attack("zoo", "l2", 3.0, 20, 5120, 0.05),
        ],
        [attack("square", "linf", 0.3, 4, 20, None, None, 1, contestants=["attack by zojax"])],
    ),
}
