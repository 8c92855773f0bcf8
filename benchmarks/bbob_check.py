"""bbobax against the official COCO code, value by value: `python -m benchmarks.bbob_check`.

Both are given the same instance. COCO's comes from a generator of 2009: a multiplicative congruential
stream with a shuffling table makes uniforms, these make the optimum and, through normals and Gram-Schmidt,
the two rotations. The table shows the largest relative difference over random points of the box. The peaks
of the two Gallagher functions cannot be handed over, and are left out.
"""

import argparse
from functools import partial

import cocoex
import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import bbob
from benchmarks.measure import save

MODULUS = 2**31 - 1


def uniforms(count: int, seed: int) -> np.ndarray:
    """The stream x <- 16807 x mod 2^31 - 1, through a table of 32 entries that its own output indexes."""
    state, table = max(abs(seed), 1), [0] * 32
    for i in reversed(range(40)):
        state = 16807 * state % MODULUS
        if i < 32:
            table[i] = state
    out, drawn = table[0], []
    for _ in range(count):
        state = 16807 * state % MODULUS
        place = out // 67108865
        out, table[place] = table[place], state
        drawn.append(out / 2.147483647e9 or 1e-99)
    return np.array(drawn)


def normals(count: int, seed: int) -> np.ndarray:
    u = uniforms(2 * count, seed)
    return np.sqrt(-2 * np.log(u[:count])) * np.cos(2 * np.pi * u[count:])


def rotation(dim: int, seed: int) -> np.ndarray:
    """Gram-Schmidt on the columns of a matrix of normals."""
    matrix = normals(dim * dim, seed).reshape(dim, dim).T
    for i in range(dim):
        for j in range(i):
            matrix[:, i] -= matrix[:, i] @ matrix[:, j] * matrix[:, j]
        matrix[:, i] /= np.linalg.norm(matrix[:, i])
    return matrix


def compare(number: int, dim: int, points: int, instance: int) -> float:
    """The largest relative difference on one function.

    COCO's files do not agree on which of the two rotations is called R: both assignments are tried.
    """
    official = cocoex.BareProblem("bbob", number, dim, instance)
    name = bbob.FUNCTIONS[number - 1]
    # f4 and f18 share the seed of the function before them.
    seed = {4: 3, 18: 17}.get(number, number) + 10_000 * instance
    first, second = rotation(dim, seed + 1_000_000), rotation(dim, seed)
    x = np.random.default_rng(number).uniform(-5, 5, (points, dim))
    theirs = np.array([official(row) for row in x]) - official.best_value()
    given = bbob.instance(name, dim, 0).replace(x_opt=jnp.asarray(official.best_parameter()))
    evaluate = jax.jit(jax.vmap(partial(bbob.value, name, dim), in_axes=(0, None)))

    def worst(r, q):
        ours = evaluate(jnp.asarray(x), given.replace(r=jnp.asarray(r), q=jnp.asarray(q)))
        return float(np.max(np.abs(np.asarray(ours) - theirs) / np.abs(theirs)))

    return min(worst(first, second), worst(second, first))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=100)
    parser.add_argument("--instances", type=int, default=2)
    arguments = parser.parse_args()
    rows = []
    with jax.enable_x64(True):
        for number, name in enumerate(bbob.FUNCTIONS, 1):
            if "gallagher" in name:
                continue
            worst = {
                f"d={dim}": max(
                    compare(number, dim, arguments.points, i + 1)
                    for i in range(arguments.instances)
                )
                for dim in bbob.DIMS
            }
            rows.append({"f": number, "function": name} | worst)
    save("search_bbob_check", rows, "cpu")


if __name__ == "__main__":
    main()
