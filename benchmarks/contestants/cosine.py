"""The cosine between an estimate and the true gradient, over many keys; a step is one estimate."""

import statistics
from functools import partial

import jax
import jax.numpy as jnp
import optax

import zojax
from benchmarks import works
from benchmarks.contestants import Host
from zojax import directions

MASK = [(True, False), (True, False)]  # weights, not biases
SETTINGS = {"masked": (directions.rademacher(), MASK), "sparse": (0.1,)}


def build(work, name):
    n = work.evaluations // 2
    params, batch = works.fill(work.params, scale=0.2), works.fill(work.batch, 1, scale=1.0)
    loss = partial(work.loss, batch=batch)
    exact = jax.grad(loss)(params)
    direction = getattr(directions, name)(*SETTINGS.get(name, ()))
    estimator = zojax.estimator(direction, num_directions=n)
    estimate = jax.jit(lambda key: estimator.estimate(key, loss, params).grads)
    many = jax.jit(partial(jax.lax.map, lambda key: cosine(estimate(key), exact)))
    # For a standard error of some 2 %: the relative error of one key is sqrt(2 / n).
    key, keys = jax.random.key(0), jax.random.split(jax.random.key(1), max(64, 4096 // n))
    run = lambda: jax.block_until_ready(estimate(key))  # noqa: E731
    return Host(run, facts=lambda: worth(many(keys).tolist(), 2 * n))


def cosine(a, b) -> jax.Array:
    dot = optax.tree.vdot(a, b)
    return dot / jnp.maximum(optax.tree.norm(a) * optax.tree.norm(b), 1e-30)


def worth(cosines: list[float], evaluations: int) -> dict:
    """The mean of cosine^2 and its standard error; in the mean of cosines, noise would cancel."""
    squares = [c * c for c in cosines]
    return {
        "evaluations": evaluations,
        "cosine": statistics.mean(cosines),
        "cosine^2": statistics.mean(squares),
        "standard error": statistics.stdev(squares) / len(squares) ** 0.5,
    }
