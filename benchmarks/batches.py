"""How many directions at once? Time of 32 directions of the sphere for each batch_size and dimension.

    python -m benchmarks.batches

`execution.choose_batch_size` answers from batch_size * d; the column "chosen" is what it took, and is timed
like the others.
"""

import argparse
import statistics

import jax
import jax.numpy as jnp

import zojax
from benchmarks.measure import interleaved, save
from zojax.execution import choose_batch_size

DIMENSIONS = [10**2, 10**3, 10**4, 10**5, 10**6, 10**7]
SIZES = [1, 2, 4, 8, 16, 32]
LIMIT = 2 * 10**8  # batch_size * d, for memory


def measure(d: int, rounds: int) -> dict:
    x, key, n = jnp.ones(d), jax.random.key(0), SIZES[-1]

    def run_of(size):
        estimator = zojax.estimator(num_directions=n, batch_size=size)
        run = jax.jit(lambda x: estimator.estimate(key, lambda x: jnp.sum(x * x), x).grads)
        return lambda: run(x)

    chosen = choose_batch_size(n, d, False)
    sizes = sorted({chosen, *(size for size in SIZES if size * d <= LIMIT)})
    taken = interleaved({str(size): run_of(size) for size in sizes}, rounds)
    medians = {size: statistics.median(taken[str(size)]) for size in sizes}
    best = min(medians, key=medians.get)
    return {
        "d": d,
        **{f"{size}, ms": 1e3 * medians[size] if size in medians else "" for size in SIZES},
        "best": best,
        "chosen": chosen,
        "chosen, ms": 1e3 * medians[chosen],
        "chosen / best": medians[chosen] / medians[best],
    }


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args(argv)
    dimensions = DIMENSIONS[:1] if arguments.quick else DIMENSIONS
    save("batches", [measure(d, arguments.rounds) for d in dimensions])


if __name__ == "__main__":
    main()
