"""Layers of flax.nnx."""

import jax.numpy as jnp
from flax import nnx

from benchmarks.models import Model
from benchmarks.zoo.data import distance, normal


def _of(build, x, kind=nnx.Param) -> Model:
    """The model that `build(rngs)` makes; variables of `kind` are its parameters."""
    graph, params, rest = nnx.split(nnx.jit(lambda: build(nnx.Rngs(0)))(), kind, ...)

    def loss(params, x):
        return distance(nnx.merge(graph, params, rest, copy=True)(x))

    return Model(loss, params, {"x": x})


class _Mlp(nnx.Module):
    def __init__(self, rngs):
        self.first, self.norm = nnx.Linear(256, 256, rngs=rngs), nnx.BatchNorm(256, rngs=rngs)
        self.dropout = nnx.Dropout(0.1, deterministic=True)
        self.last = nnx.Linear(256, 10, rngs=rngs)

    def __call__(self, x):
        return self.last(self.dropout(nnx.relu(self.norm(self.first(x)))))


def mlp_batch_norm() -> Model:
    """Linear, BatchNorm in training, Dropout switched off, Linear."""
    return _of(_Mlp, normal(32, 256))


def convolutions() -> Model:
    """Conv, grouped Conv, ConvTranspose."""

    def build(rngs):
        return nnx.Sequential(
            nnx.Conv(3, 64, (3, 3), strides=2, rngs=rngs),
            nnx.gelu,
            nnx.Conv(64, 64, (3, 3), feature_group_count=4, rngs=rngs),
            nnx.gelu,
            nnx.ConvTranspose(64, 3, (2, 2), strides=(2, 2), rngs=rngs),
        )

    return _of(build, normal(4, 32, 32, 3))


def attention() -> Model:
    """MultiHeadAttention with normed queries and keys."""

    def build(rngs):
        return nnx.MultiHeadAttention(8, 256, decode=False, normalize_qk=True, rngs=rngs)

    return _of(build, normal(2, 32, 256))


def gru() -> Model:
    """RNN of a GRUCell."""
    return _of(lambda rngs: nnx.RNN(nnx.GRUCell(128, 256, rngs=rngs)), normal(8, 16, 128))


def _adapted(rngs):
    layers = [nnx.LoRALinear(256, 256, lora_rank=8, rngs=rngs) for _ in range(2)]
    for layer in layers:  # B starts at zero
        layer.lora.lora_b[...] = layer.lora.lora_a[...].T
    return nnx.Sequential(layers[0], nnx.gelu, layers[1])


def lora() -> Model:
    """LoRALinear: only the adapters are perturbed."""
    return _of(_adapted, normal(32, 256), nnx.LoRAParam)


def lora_merged() -> Model:
    """LoRA that is merged into the weight before the product: x @ (W + A B)."""
    one = _of(_adapted, normal(32, 256), nnx.Any(nnx.Param, nnx.LoRAParam))

    def loss(params, x):
        for index in (0, 2):
            p = params["layers"][index]
            merged = p["kernel"][...] + p["lora"]["lora_a"][...] @ p["lora"]["lora_b"][...]
            x = jnp.tanh(x @ merged + p["bias"][...])
        return distance(x)

    return one._replace(loss=loss)


class _Stacked(nnx.Module):
    def __init__(self, rngs):
        @nnx.split_rngs(splits=4)
        @nnx.vmap(in_axes=(0,))
        def make(rngs):
            return nnx.Linear(128, 128, rngs=rngs)

        self.layers = make(rngs)

    def __call__(self, x):
        @nnx.scan(in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)
        def run(x, layer):
            return x + jnp.tanh(layer(x))

        return run(x, self.layers)


def stacked() -> Model:
    """Four layers made by nnx.vmap, run by nnx.scan."""
    return _of(_Stacked, normal(32, 128))
