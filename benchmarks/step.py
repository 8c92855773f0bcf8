"""Time of a mezo step in units of two forward passes, interleaved in one run.

python -m benchmarks.step
"""

import argparse
import statistics

import jax
import jax.numpy as jnp

from benchmarks.measure import against, interleaved, markdown, matching, positive, random_like, save
from benchmarks.memory import DIRECTIONS, backward, forward, mezo, naive
from benchmarks.models import MODELS, Model
from zojax import mezo as mezo_optimizer


def _donating(compiled, carry, *rest):
    """Runs a donated step over and over, feeding its parameters (and state) back to it."""
    box = [carry]

    def run():
        out = compiled(*box[0], *rest)
        box[0] = out if isinstance(out, tuple) else (out,)
        return box[0]

    return run


def contestants(model: Model) -> dict:
    params, batch = random_like(model.params), random_like(model.batch, key=1)

    def copy():
        return jax.tree.map(jnp.copy, params)

    once = forward(model).compile()
    runs = {"two forwards": lambda: (once(params, batch), once(params, batch))}
    runs["jax.grad + sgd"] = _donating(backward(model).compile(), (copy(),), batch)
    written = naive(model).compile()
    runs["naive mezo"] = _donating(
        lambda params, key: written((params, key), batch), (copy(), jax.random.key(0))
    )
    for label, direction in DIRECTIONS.items():
        state = mezo_optimizer(1e-6, 1e-3, direction=direction).init(params)
        step = mezo(model, direction).compile()
        runs[f"zojax.mezo, {label}"] = _donating(step, (copy(), state), batch)
    return runs


def measure(name: str, model: Model, rounds: int) -> list[dict]:
    seconds = interleaved(contestants(model), rounds)
    rows = []
    for label, taken in seconds.items():
        rows.append(
            {
                "model": name,
                "step": label,
                "seconds": statistics.median(taken),
                **against("two forwards", taken, seconds["two forwards"]),
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="M (159M, scan)", help="part of a model's name")
    parser.add_argument("--rounds", type=positive, default=9)
    arguments = parser.parse_args()
    chosen = matching(MODELS, arguments.only)
    rows = [r for n, make in chosen.items() for r in measure(n, make(), arguments.rounds)]
    save("step", rows) if arguments.only == "M (159M, scan)" else print(markdown(rows))


if __name__ == "__main__":
    main()
