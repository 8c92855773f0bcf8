"""How time and memory of one step grow with d, width, q, batch and layers: fitted exponents.

    python -m benchmarks.scaling

A sphere for d, a transformer for the others; one thing grows, the rest stays. The exponent b of a size^b is
a least-squares fit in logarithms, and there is none where a value is a quarter off, as beside a step. Peaks
are the compiler's, less the parameters, which every step holds and, as they are donated, writes over.
"""

import argparse
import statistics

import jax

from benchmarks import works
from benchmarks.measure import exponent, interleaved, peak_bytes, positive, save
from benchmarks.rivals import backpropagation, naive, ours

BASE = {
    **{"batch": 2, "length": 32, "layers": 4, "width": 256, "hidden": 1024},
    **{"vocabulary": 1024, "heads": 4},
}
GROWS = {
    "d": [10**5, 10**6, 10**7, 10**8],
    "width": [128, 256, 512, 1024],
    "q": [1, 4, 16, 64],
    "batch": [2, 8, 32, 128],
    "layers": [2, 4, 8, 16],
}
BUILDS = {
    "zojax, signs": ours.build,
    "naive": lambda work: naive.build(work, "map"),
    "jax.grad": backpropagation.build,
}


def work_of(what: str, size: int, base: dict) -> works.Work:
    """The base work with one thing of another size; d grows with the square of the width."""
    if what == "d":
        return works.make("sphere", {"d": size}, 2)
    settings = dict(base)
    if what == "width":
        settings |= {"width": size, "hidden": 4 * size}
    elif what != "q":
        settings[what] = size
    return works.make("transformer", settings, 2 * size if what == "q" else 2)


def program(build, work: works.Work):
    """A step that goes on from where it was, and its peak."""
    made = build(work)
    carry = jax.jit(made.start)(works.fill(work.params))
    batch = works.fill(work.batch, seed=1)
    compiled = jax.jit(made.step, donate_argnums=0).lower(carry, batch).compile()

    def run():
        nonlocal carry
        carry = compiled(carry, batch)
        return carry

    return run, peak_bytes(compiled)


def measure(what: str, sizes: list[int], rounds: int, base: dict = BASE) -> list[dict]:
    rows = []
    for name, build in BUILDS.items():
        if name == "jax.grad" and what == "q":
            continue
        programs = {size: program(build, work_of(what, size, base)) for size in sizes}
        taken = interleaved({str(size): run for size, (run, _) in programs.items()}, rounds)
        seconds = [statistics.median(taken[str(size)]) for size in sizes]
        held = []
        for size, (_, peak) in programs.items():
            leaves = jax.tree.leaves(work_of(what, size, base).params)
            held.append(peak - sum(x.size * x.dtype.itemsize for x in leaves))
        rows.append(
            {
                "grows": what,
                "sizes": " ".join(f"{size:g}" for size in sizes),
                "step": name,
                "ms": " ".join(f"{1e3 * s:.3g}" for s in seconds),
                "exponent of time": exponent(sizes, seconds),
                "MB beyond the parameters": " ".join(f"{h / 1e6:.3g}" for h in held),
                "exponent of memory": exponent(sizes, held),
            }
        )
    return rows


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=positive, default=9)
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args(argv)
    if arguments.quick:
        return save("scaling", measure("q", [1, 2], 3, BASE | {"layers": 1, "width": 32}))
    save("scaling", [row for w, s in GROWS.items() for row in measure(w, s, arguments.rounds)])


if __name__ == "__main__":
    main()
