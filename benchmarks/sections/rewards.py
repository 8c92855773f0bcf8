"""Training SmolLM2 on rewards, beside likelihood and accuracy at equal texts."""

from benchmarks.sections.section import NAMED, Section, entry

METHODS = [
    "the most frequent answer",
    "eggroll on rewards",
    "mezo on accuracy",
    "mezo on likelihood",
]


def _training(task, seed, blocks=10, every=10, held_out=128, tiny=False):
    settings = {"task": task, "seed": seed, "every": every, "held_out": held_out, "tiny": tiny}
    return entry(
        f"{task}, seed {seed}", "rewards", settings, 1, METHODS, turns=blocks, together=False
    )


def rewards(rows: list[dict]) -> list[dict]:
    """A line for each evaluation."""
    lines = []
    for row in rows:
        about = {"work": row["work"], "method": row["contestant"]}
        for one in row.get("held_out", [{"step": row.get("failed")}]):
            line = {"steps": one["step"], "generated tokens": one.get("tokens", "")}
            line |= {name: one.get(name, "") for name in ("solved", "reward")}
            line |= {"tokens of a text": one.get("length", ""), "drift, nats": one.get("drift", "")}
            line |= {"generation / step": row.get("generation", "")}
            lines.append(about | line | {"minutes": row.get("minutes", "")})
    return lines


def starts(rows: list[dict]) -> list[dict]:
    """The share solved before training, by task and format."""
    lines = [line for row in rows for line in row.get("starts", [{"task": row.get("failed")}])]
    return [line | {"options": str(line.get("options") or "")} for line in lines]


SECTIONS = {
    "rewards": Section(
        "rewards for text beside likelihood and accuracy: SmolLM2 on reasoning-gym",
        NAMED,
        rewards,
        [_training(task, seed) for task in ("letter_counting", "gcd") for seed in range(3)],
        [_training("gcd", 0, 2, 1, 4, tiny=True)],
    ),
    "starts": Section(
        "what SmolLM2 solves of reasoning-gym before training, by task and format",
        NAMED,
        starts,
        [entry("starts", "rewards", {"questions": 32}, 1, ["untrained"], turns=1)],
        [],
    ),
}
