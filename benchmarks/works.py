"""Works: the task of the contestants. A name in `WORKS`, settings and a number of evaluations describe one.

Another process can make a work again from its description. Most are a gradient estimate and a step on a
loss; others are a search problem, a training, an attack or a check.
"""

import importlib
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import models, problems
from benchmarks.models import Model


class Work(NamedTuple):
    """One gradient estimate and one step.

    Attributes:
      name, settings: how to make it again.
      loss: `(params, batch) -> scalar`; every evaluation sees the same batch.
      params, batch: trees of ShapeDtypeStructs.
      evaluations: of the loss, in a step.
      mu: smoothing radius.
    """

    name: str
    settings: dict
    loss: Callable
    params: Any
    batch: dict
    evaluations: int
    mu: float = 1e-3


class Policy(NamedTuple):
    """Generations of a population of policies on a control task."""

    environment: str
    population: int
    episodes: int
    hidden: tuple[int, ...]
    generations: int = 3


class Training(NamedTuple):
    """Fine-tuning on a data set with a number of evaluations; the loss is recorded at some points."""

    data: str
    evaluations: int
    points: int


class Attack(NamedTuple):
    """An attack on a small network; `enough` queries of zojax give the success that ART has with all."""

    name: str
    norm: str
    eps: float
    images: int
    budget: int
    step: float | None = None
    enough: int | None = None
    epochs: int = 15
    data: str = "mnist"


class Speed(NamedTuple):
    """A search to time: runs of `budget` evaluations; a slow contestant takes a `slice` of them."""

    problem: str
    dim: int
    budget: int
    slice: int


class Process(NamedTuple):
    """A search of so many evaluations in a new interpreter."""

    budget: int


class SelfCheck(NamedTuple):
    """Comparisons of a device with the CPU, until so many seconds are over."""

    seconds: float


class Specimen(NamedTuple):
    """A model of the zoo, and the directions of a population that shares it."""

    model: str
    directions: int


class Check(NamedTuple):
    """A reliability check: how many runs, from which seed."""

    check: str
    runs: int
    seed: int = 0


class Package(NamedTuple):
    """Source code to measure."""

    package: str


GRADIENTS = {
    "sphere": models.sphere,
    "rosenbrock": models.rosenbrock,
    "mlp": models.mlp,
    "model M": models.transformer,
    "SmolLM2": models.smollm2,
    "transformer": models.transformer,
    "convnet": models.convnet,
    "ResNet-18": models.resnet18,
    "LSTM": models.lstm,
    "mixture of experts": models.mixture_of_experts,
    "ViT": models.vit,
    "OPT": models.opt,
    "leaf": models.leaf,
    "members": models.members,
}
OTHERS = {
    "policy": Policy,
    "training": Training,
    "attack": Attack,
    "speed": Speed,
    "process": Process,
    "check": Check,
    "self-check": SelfCheck,
    "zoo": Specimen,
    "code": Package,
    "problem": lambda name: problems.quality()[name],
    "subset": problems.subset,
    "bbob": lambda dim: importlib.import_module("benchmarks.bbob").Bbob(dim),
    "tuning": lambda **settings: importlib.import_module("benchmarks.tuning").Tuning(**settings),
}


def make(name: str, settings: dict, evaluations: int = 1):
    """A work from its description."""
    if name in OTHERS:
        return OTHERS[name](**settings)
    return work(GRADIENTS[name](**settings), evaluations, name, settings)


def work(model: Model, evaluations: int, name: str = "", settings: dict | None = None) -> Work:
    """One gradient estimate and one step of a model."""
    loss = partial(_loss, model)
    return Work(name, settings or {}, loss, model.params, model.batch, evaluations)


def _loss(model: Model, params, batch):
    return model.loss(params, **batch)


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
