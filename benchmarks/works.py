"""What the contestants are set to: a loss, shapes of parameters and data, a number of evaluations.

A work is described by its name in `WORKS` and settings, so that another process can make it again.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from benchmarks import models
from benchmarks.models import Model

Shape = jax.ShapeDtypeStruct


class Work(NamedTuple):
    """One gradient estimate and one step.

    Attributes:
      name, settings: how to make it again.
      loss: `(params, batch) -> scalar`; every evaluation sees the same batch.
      params, batch: trees of ShapeDtypeStructs.
      evaluations: of the loss, in a step; even.
      mu: smoothing radius.
    """

    name: str
    settings: dict
    loss: Callable
    params: Any
    batch: dict
    evaluations: int
    mu: float = 1e-3


def sphere(d: int):
    """sum x^2: all cost is noise and memory traffic."""
    return Model(lambda x: jnp.sum(x * x), Shape((d,), jnp.float32), {})


def rosenbrock(d: int):
    """sum 100 (x_{i+1} - x_i^2)^2 + (1 - x_i)^2."""

    def loss(x):
        here, there = x[:-1], x[1:]
        return jnp.sum(100 * jnp.square(there - here * here) + jnp.square(1 - here))

    return Model(loss, Shape((d,), jnp.float32), {})


def convnet(batch=8, size=28, channels=(16, 32, 64)) -> Model:
    """Three 3 x 3 convolutions of stride 2 and a linear layer."""

    def loss(params, x, y):
        for w, b in params["convolutions"]:
            x = lax.conv_general_dilated(
                x, w, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
            x = jax.nn.relu(x + b)
        logits = jnp.mean(x, axis=(1, 2)) @ params["out"]
        return models.classification_loss(logits, y)

    pairs = zip((1, *channels), channels, strict=False)
    convolutions = [(Shape((3, 3, m, n), jnp.float32), Shape((n,), jnp.float32)) for m, n in pairs]
    params = {"convolutions": convolutions, "out": Shape((channels[-1], 10), jnp.float32)}
    batch_shapes = {
        "x": Shape((batch, size, size, 1), jnp.float32),
        "y": Shape((batch,), jnp.int32),
    }
    return Model(loss, params, batch_shapes)


WORKS = {
    "sphere": sphere,
    "rosenbrock": rosenbrock,
    "mlp": models.mlp,
    "model M": models.transformer,
    "SmolLM2": partial(models.smollm2, length=64),
    "transformer": models.transformer,
    "convnet": convnet,
}


def make(name: str, settings: dict, evaluations: int) -> Work:
    """A work from its description."""
    return of(WORKS[name](**settings), evaluations, name, settings)


def of(model: Model, evaluations: int, name: str = "", settings: dict | None = None) -> Work:
    """A work on any model; one without a name cannot be made again."""

    def loss(params, batch):
        return model.loss(params, **batch)

    return Work(name, settings or {}, loss, model.params, model.batch, evaluations)


def fill(shapes, seed: int = 0, scale: float = 0.02):
    """Arrays for shapes, leaf by leaf and without more than one leaf beside them: the peak of a process
    is then that of the step."""
    rng = np.random.default_rng(seed)

    def leaf(shape):
        if jnp.issubdtype(shape.dtype, jnp.integer):
            return jnp.asarray(rng.integers(0, 8, shape.shape), shape.dtype)
        x = rng.standard_normal(shape.shape, np.float32)
        x *= scale
        return jnp.asarray(x, shape.dtype)

    return jax.tree.map(leaf, shapes)
