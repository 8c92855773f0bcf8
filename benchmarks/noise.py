"""Noise kernels: time of p + mu * z against a scaled copy of p, and the temporaries they need.

python -m benchmarks.noise
"""

import argparse
import statistics

import jax
import jax.numpy as jnp

from benchmarks.measure import against, interleaved, positive, save
from zojax import noise

SHAPES = [(4096, 4096), (16, 1024, 1024), (2**24,), (2**14, 1000)]
MU = 1e-3


def _zojax(source):
    def kernel(p, seed):
        return p + MU * noise.row_noise(source(seed), p.shape).dense()

    return kernel


KERNELS = {
    "scaled copy": lambda p, seed: p * MU + seed[0].astype(jnp.float32),
    "zojax signs": _zojax(noise.Signs),
    "zojax normals": _zojax(noise.Normals),
    "jax.random.rademacher": lambda p, s: (
        p + MU * jax.random.rademacher(jax.random.wrap_key_data(s), p.shape, jnp.float32)
    ),
    "jax.random.normal": lambda p, s: (
        p + MU * jax.random.normal(jax.random.wrap_key_data(s), p.shape)
    ),
}


def measure(shape: tuple[int, ...], rounds: int) -> list[dict]:
    seed = noise.make_seed(jax.random.key(0))
    p = jnp.ones(shape)
    compiled = {name: jax.jit(k).lower(p, seed).compile() for name, k in KERNELS.items()}
    runs = {name: (lambda c=c: c(p, seed)) for name, c in compiled.items()}
    seconds = interleaved(runs, rounds)
    rows = []
    for name, c in compiled.items():
        rows.append(
            {
                "shape": "x".join(map(str, shape)),
                "kernel": name,
                "ms": 1e3 * statistics.median(seconds[name]),
                "GB/s": 8e-9 * p.size / statistics.median(seconds[name]),  # read once, written once
                **against("scaled copy", seconds[name], seconds["scaled copy"]),
                "temporaries / leaf": c.memory_analysis().temp_size_in_bytes / (4 * p.size),
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=positive, default=31)
    arguments = parser.parse_args()
    save("noise", [row for shape in SHAPES for row in measure(shape, arguments.rounds)])


if __name__ == "__main__":
    main()
