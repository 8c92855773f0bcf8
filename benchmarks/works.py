"""Works: the task of the contestants. A name, settings and a number of evaluations describe one.

Another process can make a work again from its description. Most are a gradient estimate and a step on a
loss; others are a search problem, a training, an attack or a check.
"""

import importlib
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import models, problems
from benchmarks.models import Model


class Work(NamedTuple):
    """One gradient estimate and one step; `name` and `settings` make it again."""

    name: str
    settings: dict
    loss: Callable  # (params, batch) -> scalar; every evaluation sees the same batch
    params: Any  # trees of ShapeDtypeStructs
    batch: dict
    evaluations: int  # of the loss, in a step
    mu: float = 1e-3  # smoothing radius


GRADIENTS = {
    "sphere": models.sphere,
    "rosenbrock": models.rosenbrock,
    "mlp": models.mlp,
    "model M": models.transformer,
    "SmolLM2": models.smollm2,
    "SmolLM2 on reviews": models.smollm2_on_reviews,
    "transformer": models.transformer,
    "convnet": models.convnet,
    "ResNet-18": models.resnet18,
    "LSTM": models.lstm,
    "mixture of experts": models.mixture_of_experts,
    "ViT": models.vit,
    "OPT": models.opt,
    "Llama": models.llama,
    "LoRA": models.adapters,
    "leaf": models.leaf,
    "members": models.members,
}
OTHERS = {
    "problem": lambda name: (problems.quality() | problems.of_default() | problems.suites())[name],
    "bbob": lambda **of: importlib.import_module("benchmarks.bbob").Bbob(**of),
    "tuning": lambda **settings: importlib.import_module("benchmarks.tuning").Tuning(**settings),
}


def make(name: str, settings: dict, evaluations: int = 1):
    """A work from its description; one that is neither a model nor a search is its settings alone."""
    if name in GRADIENTS:
        return work(GRADIENTS[name](**settings), evaluations, name, settings)
    return OTHERS.get(name, SimpleNamespace)(**settings)


def work(model: Model, evaluations: int, name: str = "", settings: dict | None = None) -> Work:
    """One gradient estimate and one step of a model."""

    def loss(params, batch):
        return model.loss(params, **batch)

    return Work(name, settings or {}, loss, model.params, model.batch, evaluations)


def fill(shapes, seed: int = 0, scale: float = 0.02):
    """Arrays for shapes, leaf by leaf, so that the peak of a process is that of the step.

    An array becomes a copy of it.
    """
    rng, leaves = np.random.default_rng(seed), iter(range(1_000_000))
    on_cpu = jax.default_backend() == "cpu"

    def leaf(shape):
        if isinstance(shape, jax.Array):
            return jnp.copy(shape)
        if jnp.issubdtype(shape.dtype, jnp.integer):
            return jnp.asarray(rng.integers(0, 8, shape.shape), shape.dtype)
        if not on_cpu:  # billions of numbers: a minute for NumPy
            key = jax.random.fold_in(jax.random.key(seed), next(leaves))
            draw = partial(jax.random.normal, shape=shape.shape, dtype=shape.dtype)
            return jax.jit(lambda k: (scale * draw(k)).astype(shape.dtype))(key)
        x = rng.standard_normal(shape.shape, np.float32)
        x *= scale
        return jnp.asarray(x, shape.dtype)

    return jax.tree.map(leaf, shapes)
