"""Random estimators against a float64 reference in NumPy; only the noise is shared with zojax.

The shapings and their definitions in NumPy are those of the tests.
"""

import random
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

import zojax
from tests import _laws
from zojax import directions, stencils

DIRECTIONS = {
    "rademacher": directions.rademacher,
    "normal": directions.normal,
    "sphere": directions.sphere,
    "coordinate": directions.coordinate,
    "orthogonal": directions.orthogonal,
    "hadamard": directions.hadamard,
    "low_rank": partial(directions.low_rank, 1),
    "sparse": partial(directions.sparse, 0.5),
    "masked": lambda: directions.masked(directions.rademacher(), lambda path, leaf: leaf.ndim > 0),
}
STENCILS = _laws.STENCILS | {
    "fourth order": stencils.Stencil((1, -1, 2, -2), (2 / 3, -2 / 3, -1 / 12, 1 / 12))
}
SHAPES = [(3,), (1,), (7, 5), (2, 3, 4), (), (16, 2), (0, 3)]


def random_estimates(runs: int, seed: int) -> dict[str, int]:
    """Counts the runs, and the gradients that differ from the reference by more than rounding."""
    draw = random.Random(seed)
    wrong = [one for one in (case(draw, i) for i in range(runs)) if not agrees(*one)]
    for choices, *_ in wrong:
        print("wrong:", choices)
    return {"runs": runs, "wrong": len(wrong)}


def case(draw: random.Random, i: int) -> tuple[dict, dict, int]:
    """Choices by name, the parameters, and the key; directions and shapings come in turn."""
    choices = {
        "direction": list(DIRECTIONS)[i % len(DIRECTIONS)],
        "stencil": draw.choice(list(STENCILS)),
        "shaping": list(_laws.SHAPINGS)[i % len(_laws.SHAPINGS)],
        "num_directions": draw.randint(2, 5),
        "batch_size": draw.choice([None, 1, 2, 3, 100]),
        "mu": draw.choice([0.05, 0.2, 1.0]),
        "dtype": draw.choice(["float32", "float64"]),
    }
    if choices["shaping"] == "standardize_groups":  # of two
        choices["num_directions"] &= ~1
    normal = np.random.default_rng(draw.getrandbits(32)).normal
    shapes = [(5,), *(draw.choice(SHAPES) for _ in range(draw.randint(0, 2)))]
    params = {
        f"leaf {k}": np.asarray(normal(size=s), choices["dtype"]) for k, s in enumerate(shapes)
    }
    params["count"] = np.int32(3)
    return choices, params, draw.getrandbits(30)


def loss(params, xp=jnp):
    """Smooth, neither even nor odd in any leaf."""
    leaves = [x for name, x in sorted(params.items()) if name != "count"]
    return sum(xp.sum(xp.sin(x + k) + 0.1 * x**2) for k, x in enumerate(leaves, start=1))


def agrees(choices: dict, params: dict, key: int) -> bool:
    """Compares `estimate` with the reference, at a tolerance from the resolution of the values."""
    with jax.enable_x64(choices["dtype"] == "float64"):
        direction, n = DIRECTIONS[choices["direction"]](), choices["num_directions"]
        parts = STENCILS[choices["stencil"]], _laws.SHAPINGS[choices["shaping"]].shaping
        options = {name: choices[name] for name in ("mu", "num_directions", "batch_size")}
        estimator = zojax.estimator(direction, *parts, **options)
        found = estimator.estimate(key, loss, params, state=estimator.init()).grads
        z = _directions(direction, key, n, params)
        expected, size = _reference(choices, params, z)
        # The length of a direction on the sphere is a float32, rounded as each program does.
        exact = choices["dtype"] == "float64" and choices["direction"] != "sphere"
        eps = float(np.finfo("float64" if exact else "float32").eps)
        near = partial(np.allclose, rtol=0, atol=400 * eps * size)
        return int(found["count"]) == 0 and all(
            near(np.asarray(found[name], float), expected[name])
            and found[name].dtype == params[name].dtype
            for name in expected
        )


def _directions(direction, key: int, n: int, params: dict) -> list[dict]:
    """z_0 ... z_{n-1} as float64 arrays, zero where a direction does not move a leaf."""
    like = {
        name: jax.ShapeDtypeStruct(x.shape, x.dtype) if x.dtype.kind == "f" else None
        for name, x in params.items()
    }
    frame = direction.frame(jax.random.key(key), n, like)
    drawn = [direction.draw(frame, jnp.int32(i), like) for i in range(n)]
    return [
        {
            name: np.zeros(x.shape) if z[name] is None else np.asarray(z[name].dense(), float)
            for name, x in params.items()
            if x.dtype.kind == "f"
        }
        for z in drawn
    ]


def _reference(choices: dict, params: dict, z: list[dict]) -> tuple[dict, float]:
    """sum_i c_i z_i in float64, and the size of the numbers that it came from."""
    stencil, law, n = STENCILS[choices["stencil"]], _laws.SHAPINGS[choices["shaping"]], len(z)
    mu = float(np.float32(choices["mu"]))  # as zojax keeps it

    def value(o, zi):
        return loss({k: np.asarray(params[k], float) + mu * o * zi[k] for k in zi}, np)

    values = np.array([[value(o, zi) for o in stencil.offsets] for zi in z])
    # Equal values, as of a sparse direction without a coordinate, carry no direction.
    with np.errstate(divide="ignore", invalid="ignore"):
        shaped = np.nan_to_num(law.values(values), posinf=0, neginf=0)
        plain = (shaped @ np.array(stencil.weights) + stencil.memory * values.mean()) / mu
        c = np.nan_to_num(law.coefficients(plain), posinf=0, neginf=0)
    grads = {name: sum(ci * zi[name] for ci, zi in zip(c, z, strict=True)) / n for name in z[0]}
    largest = max(np.abs(zi[name]).max(initial=0) for zi in z for name in zi)
    divided = ("standardize", "standardize_groups", "by_std", "top")
    spread = values.std() if choices["shaping"] in divided else 1.0
    spread = plain.std() if choices["shaping"] == "unit_std" else spread
    spread = spread if spread > 0 else 1.0
    return grads, max(1, np.abs(values).max()) * largest / (mu * min(1.0, spread))
