"""Long vectors: their noise is made as a whole, with an even length (`noise.of_even_length`)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zojax
from tests.implicit._helpers import close, materialised, normal
from zojax import directions, noise
from zojax.implicit import evaluate

LOSSES = {
    "whole": jnp.sin,
    "without the first": lambda x: jnp.sin(x[1:]),
    "without the last": lambda x: x[:-1] * 2,
    "neighbours": lambda x: x[1:] * x[:-1] ** 2,
    "inside": lambda x: x[2:-1] + 1,
    "a small part": lambda x: x[5:100] * 3,
    "strided": lambda x: x[::2] * 2,
    "several times": lambda x: x * x + jnp.sin(x) + jnp.clip(x, -1, 1),
    "in a branch and behind it": lambda x: jax.lax.cond(x[0] > 0, jnp.sin, lambda x: x, x) + x,
    "in a loop, before and behind it": lambda x: (
        jax.lax.fori_loop(0, 3, lambda i, y: y * x + x, x + 1) * jnp.exp(x)
    ),
    "out of a loop": lambda x: (jax.lax.scan(lambda c, _: (c, x), 0, None, 2)[1][1] + x, x),
    "a matrix": lambda x: x[: noise.LONG].reshape(-1, 64) @ jnp.ones((64, 2)),
}
DIRECTIONS = {"rademacher": directions.rademacher(), "normal": directions.normal()}


@pytest.mark.parametrize(
    ("name", "d"),
    [
        ("rademacher", noise.LONG),
        ("normal", noise.LONG + 1),
        pytest.param("normal", noise.LONG + 2, marks=pytest.mark.slow),
        ("rademacher", noise.LONG + 3),
    ],
)
def test_views_equal_the_materialised_ones(d, name):
    x, direction = normal(0, (d,)), DIRECTIONS[name]
    z = direction.draw(direction.frame(jax.random.key(1), 1, x), 0, x)

    @jax.jit
    def both(x, z, y):
        losses = LOSSES | {"beside another": lambda x: x * y}
        implicit = {k: evaluate(f, x, z, 0.1) for k, f in losses.items()}
        return implicit, {k: f(materialised(x, z, 0.1)) for k, f in losses.items()}

    close(*both(x, z, jnp.cos(x)), 1e-6)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_narrow_dtypes_are_rounded_once(dtype):
    x = normal(0, (noise.LONG + 1,), dtype)
    direction = directions.normal()
    z = direction.draw(direction.frame(jax.random.key(1), 1, x), 0, x)
    actual = evaluate(lambda x: x[1:], x, z, 0.1)
    np.testing.assert_array_equal(actual, materialised(x, z, 0.1)[1:])


@pytest.mark.parametrize(
    ("name", "n"), [("rademacher", 1), ("normal", 1), ("rademacher", 3), ("normal", 9)]
)
def test_sums_of_directions(name, n):
    like = {"x": jax.ShapeDtypeStruct((noise.LONG + 1,), jnp.float32)}
    direction, c = DIRECTIONS[name], normal(2, (n,))
    frame = direction.frame(jax.random.key(0), n, like)
    dense = [direction.draw(frame, i, like)["x"].dense() for i in range(n)]
    expected = {"x": jnp.tensordot(c, jnp.stack(dense), 1)}
    close(jax.jit(lambda c: direction.combine(frame, c, like))(c), expected, 1e-6)


def test_steps_side_by_side_equal_single_ones():
    x = normal(0, (noise.LONG + 1,))
    source = zojax.estimator(num_directions=2, mu=0.1)

    def grads(key):
        return source.estimate(key, lambda x: jnp.mean((x[1:] - x[:-1]) ** 2), x).grads

    keys = jax.random.split(jax.random.key(0), 3)
    single = jax.jit(grads)
    close(jax.jit(jax.vmap(grads))(keys), np.stack([single(k) for k in keys]), 1e-5)
