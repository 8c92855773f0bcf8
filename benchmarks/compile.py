"""Processor time to trace and compile a step of mezo, beside that of forward passes.

    python -m benchmarks.compile

The persistent cache is off, and every try compiles all programs anew, in shuffled order. XLA compiles equal
kernels of one program once, so that a program of two forwards costs little more than one of a single
forward; both are given.
"""

import argparse
import statistics
import time
from functools import partial

import jax

from benchmarks.measure import against, cautious, in_turn, markdown, matching, positive, save
from benchmarks.memory import DIRECTIONS, backward, forward, mezo
from benchmarks.models import MODELS, Model


def two_forwards(model: Model):
    """One program that evaluates the loss at two points."""

    def both(p, q, batch):
        return model.loss(p, **batch), model.loss(q, **batch)

    return jax.jit(both).lower(model.params, model.params, model.batch)


def seconds(lower) -> float:
    """Processor time of tracing, lowering and compiling anew."""
    jax.clear_caches()
    start = time.process_time()
    lower().compile()
    return time.process_time() - start


def measure(name: str, model: Model, tries: int) -> list[dict]:
    programs = {
        "a forward": lambda: forward(model),
        "two forwards, one program": lambda: two_forwards(model),
        "jax.grad + sgd": lambda: backward(model),
    }
    for label, direction in DIRECTIONS.items():
        programs[f"zojax.mezo, {label}"] = lambda d=direction: mezo(model, d)
    timers = {label: partial(seconds, lower) for label, lower in programs.items()}
    taken = in_turn(timers, dict.fromkeys(timers, tries))
    twice, both = [2 * s for s in taken["a forward"]], taken["two forwards, one program"]
    return [
        {
            "model": name,
            "program": label,
            "seconds": statistics.median(mine),
            "/ two programs of a forward": cautious(mine, twice),
            **against("one program of two forwards", mine, both),
        }
        for label, mine in taken.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="M (159M, scan)", help="part of a model's name")
    parser.add_argument("--tries", type=positive, default=5)
    arguments = parser.parse_args()
    jax.config.update("jax_enable_compilation_cache", False)
    chosen = matching(MODELS, arguments.only)
    rows = [r for n, make in chosen.items() for r in measure(n, make(), arguments.tries)]
    save("compile", rows) if arguments.only == "M (159M, scan)" else print(markdown(rows))


if __name__ == "__main__":
    main()
