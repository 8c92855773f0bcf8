"""How many directions at once? Time of a gradient for each batch_size.

    python -m benchmarks.batches

32 directions of the sphere in each dimension, and populations of low-rank members, which share products.
The column "default" is what `batch_size=None` took, and is timed like the others.
"""

import argparse
import statistics

import jax

import zojax
from benchmarks.contests import CONTESTS
from benchmarks.measure import cautious, interleaved, positive, save, spread
from benchmarks.works import fill, make
from zojax import directions

DIMENSIONS = [10**2, 10**3, 10**4, 10**5, 10**6, 10**7]
SIZES = [1, 2, 4, 8, 16, 32, 64, 128, 256]
LIMIT = 2 * 10**8  # batch_size * d of dense directions, for memory


def spheres(dimensions: list[int]) -> dict:
    """Label -> (work, direction, sizes), of dense directions."""
    return {
        f"sphere, d = {d:.0e}": (
            make("sphere", {"d": d}, 64),
            directions.rademacher(),
            [size for size in SIZES if size <= 32 and size * d <= LIMIT],
        )
        for d in dimensions
    }


def populations() -> dict:
    """The same of the contests' populations."""
    entries = [e for name in ("mlp", "transformers", "convnet") for e in CONTESTS[name]]
    return {
        e.label: (
            make(**e.work),
            directions.low_rank(),
            [size for size in SIZES if 8 <= size <= e.work["evaluations"] // 2],
        )
        for e in entries
        if e.work["evaluations"] <= 2 * SIZES[-1]
    }


def measure(label: str, work, direction, sizes: list[int], rounds: int) -> dict:
    params, batch = fill(work.params), fill(work.batch, 1)
    key, count = jax.random.key(0), work.evaluations // 2

    def run_of(size):
        estimator = zojax.estimator(direction, mu=work.mu, num_directions=count, batch_size=size)
        run = jax.jit(lambda p, b: zojax.grad(work.loss, estimator)(key, p, b))
        return lambda: run(params, batch)

    runs = {str(size): run_of(size) for size in sizes} | {"default": run_of(None)}
    seconds = interleaved(runs, rounds)
    medians = {name: statistics.median(taken) for name, taken in seconds.items()}
    best = min(medians, key=medians.get)
    return {
        "work": label,
        "directions": count,
        **{f"{size}, ms": 1e3 * medians[str(size)] if size in sizes else "" for size in SIZES},
        "default, ms": 1e3 * medians["default"],
        "best": best,
        "default / best": cautious(seconds["default"], seconds[best]),
        "quartiles": spread(seconds["default"], seconds[best]),
        "rounds": list(seconds.values()),
    }


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=positive, default=9)
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args(argv)
    works = spheres(DIMENSIONS[:1]) if arguments.quick else spheres(DIMENSIONS) | populations()
    save("batches", [measure(name, *work, arguments.rounds) for name, work in works.items()])


if __name__ == "__main__":
    main()
