"""Training SmolLM2 on rewards, beside likelihood and accuracy at equal texts."""

from benchmarks.sections.section import NAMED, Section, entry
from benchmarks.summary import clear
from benchmarks.tables import quartiles

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


def _drafted(task, turns, population=16, prompts=8, new=4, tiny=False, **more):
    label = f"{task}, {population} members, {prompts} prompt{'s' * (prompts > 1)}, {new} tokens"
    settings = {"task": task, "seed": 0, "held_out": 4, "tiny": tiny, "population": population}
    settings |= {"prompts": prompts, "new": new} | more
    return entry(label, "rewards", settings, 1, ["eggroll with drafts"], turns=turns)


def drafted(rows: list[dict]) -> list[dict]:
    """A line without and one with drafts."""
    lines = []
    for row in rows:
        for one in row.get("drafted", [{"draft": row.get("failed")}]):
            line = {"work": row["work"]} | one
            cpu, over, share, differ = (line.pop(k, "") for k in ("cpu", "over", "share", "differ"))
            if cpu:
                line |= {"generation, CPU s": cpu["median"], "over none": clear(over)}
                line |= {"over none, quartiles": quartiles(over), "generation / step": share}
                line |= {"texts that differ": differ}
            lines.append(line)
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
    "reward-drafts": Section(
        "the share of generation in a step on rewards, without and with drafts",
        NAMED,
        drafted,
        [
            _drafted("letter_counting", 6),
            _drafted("letter_counting", 5, 8, 1, 48, format="chat"),
        ],
        [_drafted("gcd", 3, 4, 2, 4, tiny=True)],
    ),
    "starts": Section(
        "what SmolLM2 solves of reasoning-gym before training, by task and format",
        NAMED,
        starts,
        [entry("starts", "rewards", {"questions": 32}, 1, ["untrained"], turns=1)],
        [],
    ),
}
