"""What matters on a GPU, in order of importance: `python -m benchmarks --device gpu`, in eight minutes.

Nothing is downloaded. `python -m benchmarks --device cpu --quick` rehearses all of it.
"""

from benchmarks.sections import costs
from benchmarks.sections.attacks import attack
from benchmarks.sections.attacks import attacks as attack_table
from benchmarks.sections.section import GPU, Section, entry
from benchmarks.sections.steps import TINY
from benchmarks.tables import contest, rates

NOISES = ["scaled copy", "zojax signs", "zojax normals"]
STEPS = ["two forwards in a loop", "zojax, signs", "zojax, low rank", "jax.grad"]
TUNED = {"batch": 16, "length": 512, "dtype": "bfloat16"}


def _check(seconds: float):
    return entry("self-check", "self-check", {"seconds": seconds}, 1, ["device and CPU"], turns=1)


def _opt(label, shape):
    return costs.opt_shape(label, shape, STEPS[:2], together=False)


def _steps(label, name, settings):
    return entry(label, name, settings, 2, STEPS, STEPS[:1])


def _attack(images, budget, epochs):
    settings = ("square", "linf", 0.1, images, budget, None, None, epochs, "digits")
    return attack(*settings, contestants=["attack by zojax"])


def self_check(rows: list[dict]) -> list[dict]:
    """Differences between the device and the CPU."""
    checks = [check for row in rows for check in row.get("checks", [])]
    failed = [{"check": row["failed"]} for row in rows if "failed" in row]
    return [c | {"agrees": "yes" if c["error"] <= c["limit"] else "NO"} for c in checks] + failed


SECTIONS = {
    "self-check": Section(
        "noise, estimates and steps on the device beside the CPU's",
        GPU,
        self_check,
        [_check(60)],
        [_check(5)],
    ),
    "opt": Section(
        "a step and two forwards of OPT shapes, MeZO's Table 22",
        GPU,
        costs.opt,
        [_opt(label, row[0]) for label, row in costs.OPT.items() if label != "66B"],
        [_opt("tiny", costs.TINY_OPT)],
    ),
    "members": Section(
        "populations against inference, on a GPU",
        GPU,
        contest,
        [
            costs.members("MLP, 4096 members, 32 examples", "mlp", 2048, batch=32),
            costs.members(
                "transformer, 1024 members, 32 tokens", "transformer", 512, **costs.SMALL
            ),
        ],
        [costs.members("MLP, 4 members", "mlp", 2, batch=1, widths=(8, 4, 3))],
    ),
    "bandwidth": Section(
        "noise of a gigabyte against a scaled copy",
        GPU,
        costs.noise,
        [costs.leaf(2**14, 2**14, contestants=NOISES)],
        [costs.leaf(64, 64, contestants=NOISES)],
    ),
    "fine-tuning": Section(
        "training steps of SmolLM2's shape a second",
        GPU,
        rates,
        [_steps("SmolLM2, bf16, 16 x 512 tokens", "SmolLM2", TUNED)],
        [_steps("transformer", "transformer", TINY)],
    ),
    "attack-rate": Section(
        "images under attack a second",
        GPU,
        attack_table,
        [_attack(256, 500, 15)],
        [_attack(4, 20, 1)],
    ),
}
