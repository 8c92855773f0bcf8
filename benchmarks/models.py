"""Losses of real shapes: no weights are needed to compile them.

Each function returns `Model(loss, params, batch)` with ShapeDtypeStructs, for `loss(params, **batch)`.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

Shape = jax.ShapeDtypeStruct
HEADS = 16  # of a transformer


class Model(NamedTuple):
    loss: Callable
    params: Any
    batch: dict


def _f32(*shape):
    return Shape(shape, jnp.float32)


def next_token_loss(logits, tokens):
    """Mean cross-entropy of every token given those before it, in float32."""
    logits = logits[:, :-1].astype(jnp.float32)
    target = jnp.take_along_axis(logits, tokens[:, 1:, None], axis=-1)[..., 0]
    return jnp.mean(jax.nn.logsumexp(logits, axis=-1) - target)


def classification_loss(logits, labels):
    """Mean cross-entropy of labels (N,) under logits (N, C)."""
    return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], axis=1))


def _tokens(batch, length):
    return {"tokens": Shape((batch, length), jnp.int32)}


def rms_norm(x, gain):
    return x * lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + 1e-6) * gain


def attention(heads: int, qkv):
    """Causal attention from queries, keys and values side by side (B, T, 3 D): (B, T, D)."""
    b, t, d = *qkv.shape[:2], qkv.shape[2] // 3
    q, k, v = (a.reshape(b, t, heads, d // heads) for a in jnp.split(qkv, 3, axis=-1))
    scores = jnp.einsum("bqhd,bkhd->bhqk", q, k) / jnp.sqrt(d / heads).astype(qkv.dtype)
    scores = jnp.where(jnp.tril(jnp.ones((t, t), bool)), scores, -1e9)
    mixed = jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(scores, axis=-1), v)
    return mixed.reshape(b, t, d)


def transformer(
    batch=4, length=128, layers=12, width=1024, hidden=4096, vocabulary=8192, heads=HEADS, scan=True
) -> Model:
    """A pre-norm transformer, scanned or unrolled; next-token loss, tied output layer."""

    def layer(x, p):
        x = x + attention(heads, rms_norm(x, p["norm1"]) @ p["qkv"]) @ p["out"]
        return x + jax.nn.gelu(rms_norm(x, p["norm2"]) @ p["up"]) @ p["down"]

    def loss(params, tokens):
        x = params["embed"][tokens]
        if scan:
            x, _ = lax.scan(lambda x, p: (layer(x, p), None), x, params["layers"])
        else:
            for p in params["layers"]:
                x = layer(x, p)
        return next_token_loss(rms_norm(x, params["norm"]) @ params["embed"].T, tokens)

    shapes = {"qkv": (width, 3 * width), "out": (width, width), "up": (width, hidden)}
    shapes |= {"down": (hidden, width), "norm1": (width,), "norm2": (width,)}
    if scan:
        stack = {k: _f32(layers, *s) for k, s in shapes.items()}
    else:
        stack = [{k: _f32(*s) for k, s in shapes.items()} for _ in range(layers)]
    params = {"embed": _f32(vocabulary, width), "norm": _f32(width), "layers": stack}
    return Model(loss, params, _tokens(batch, length))


def mlp(batch=32, widths=(784, 1024, 1024, 10)) -> Model:
    """Dense layers with biases; cross-entropy."""

    def loss(params, x, y):
        for i, (w, b) in enumerate(params):
            x = x @ w + b
            x = jax.nn.relu(x) if i + 1 < len(params) else x
        return classification_loss(x, y)

    params = [(_f32(m, n), _f32(n)) for m, n in zip(widths, widths[1:], strict=False)]
    return Model(loss, params, {"x": _f32(batch, widths[0]), "y": Shape((batch,), jnp.int32)})


def lstm(batch=16, length=64, width=1024, vocabulary=8192) -> Model:
    """Two LSTM layers over time, tied output layer."""

    def cell(p, carry, x):
        h, c = carry
        i, f, g, o = jnp.split(x @ p["wx"] + h @ p["wh"] + p["b"], 4, axis=-1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return (h, c), h

    def loss(params, tokens):
        x = jnp.swapaxes(params["embed"][tokens], 0, 1)
        zeros = jnp.zeros((tokens.shape[0], width))
        for p in params["cells"]:
            _, x = lax.scan(partial(cell, p), (zeros, zeros), x)
        return next_token_loss(jnp.swapaxes(x, 0, 1) @ params["embed"].T, tokens)

    cell_params = {name: _f32(width, 4 * width) for name in ("wx", "wh")} | {"b": _f32(4 * width)}
    params = {"embed": _f32(vocabulary, width), "cells": [cell_params] * 2}
    return Model(loss, params, _tokens(batch, length))


def mixture_of_experts(batch=512, width=512, hidden=2048, experts=8) -> Model:
    """A dense-dispatch block: every token is sent to its two best experts."""

    def loss(params, x):
        gates = jax.nn.softmax(x @ params["router"])
        best, chosen = lax.top_k(gates, 2)
        weights = jnp.sum(jax.nn.one_hot(chosen, experts) * best[..., None], axis=1)
        up = jax.nn.gelu(jnp.einsum("td,edf->etf", x, params["up"]))
        down = jnp.einsum("etf,efd->etd", up, params["down"])
        return jnp.mean(jnp.square(jnp.einsum("te,etd->td", weights, down) - x))

    params = {"router": _f32(width, experts)}
    params |= {"up": _f32(experts, width, hidden), "down": _f32(experts, hidden, width)}
    return Model(loss, params, {"x": _f32(batch, width)})


def convnet(batch=8, size=28, channels=(16, 32, 64)) -> Model:
    """Three 3 x 3 convolutions of stride 2 and a linear layer."""
    layout = "NHWC", "HWIO", "NHWC"

    def loss(params, x, y):
        for w, b in params["convolutions"]:
            x = lax.conv_general_dilated(x, w, (2, 2), "SAME", dimension_numbers=layout)
            x = jax.nn.relu(x + b)
        return classification_loss(jnp.mean(x, axis=(1, 2)) @ params["out"], y)

    pairs = zip((1, *channels), channels, strict=False)
    convolutions = [(_f32(3, 3, m, n), _f32(n)) for m, n in pairs]
    params = {"convolutions": convolutions, "out": _f32(channels[-1], 10)}
    return Model(loss, params, {"x": _f32(batch, size, size, 1), "y": Shape((batch,), jnp.int32)})


def resnet18(batch=8, size=64) -> Model:
    """A ResNet-18-shaped ConvNet in Flax, group norm in place of batch norm."""
    import flax.linen as nn

    class Block(nn.Module):
        features: int
        stride: int

        @nn.compact
        def __call__(self, x):
            strides = (self.stride, self.stride)
            y = nn.Conv(self.features, (3, 3), strides, use_bias=False)(x)
            y = nn.relu(nn.GroupNorm(32)(y))
            y = nn.GroupNorm(32)(nn.Conv(self.features, (3, 3), use_bias=False)(y))
            if x.shape != y.shape:
                x = nn.GroupNorm(32)(nn.Conv(self.features, (1, 1), strides, use_bias=False)(x))
            return nn.relu(x + y)

    class ResNet(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.relu(nn.GroupNorm(32)(nn.Conv(64, (7, 7), (2, 2), use_bias=False)(x)))
            x = nn.max_pool(x, (3, 3), (2, 2), "SAME")
            for stage, features in enumerate((64, 128, 256, 512)):
                for block in range(2):
                    x = Block(features, 2 if stage and not block else 1)(x)
            return nn.Dense(1000)(jnp.mean(x, axis=(1, 2)))

    model, x = ResNet(), _f32(batch, size, size, 3)
    params = jax.eval_shape(model.init, jax.random.key(0), x)
    loss = lambda params, x, y: classification_loss(model.apply(params, x), y)  # noqa: E731
    return Model(loss, params, {"x": x, "y": Shape((batch,), jnp.int32)})


def _vit_layer(width: int, heads: int):
    """The class of a pre-norm transformer layer in Equinox."""
    import equinox as eqx

    class Layer(eqx.Module):
        attention: eqx.nn.MultiheadAttention
        up: eqx.nn.Linear
        down: eqx.nn.Linear
        norm1: eqx.nn.LayerNorm
        norm2: eqx.nn.LayerNorm

        def __init__(self, key):
            keys = jax.random.split(key, 3)
            self.attention = eqx.nn.MultiheadAttention(heads, width, key=keys[0])
            self.up = eqx.nn.Linear(width, 4 * width, key=keys[1])
            self.down = eqx.nn.Linear(4 * width, width, key=keys[2])
            self.norm1, self.norm2 = eqx.nn.LayerNorm(width), eqx.nn.LayerNorm(width)

        def __call__(self, x):
            y = jax.vmap(self.norm1)(x)
            x = x + self.attention(y, y, y)
            y = jax.vmap(self.up)(jax.vmap(self.norm2)(x))
            return x + jax.vmap(self.down)(jax.nn.gelu(y))

    return Layer


def vit(batch=8, size=64, patch=8, width=384, depth=6, heads=6) -> Model:
    """A ViT of the small width, in Equinox."""
    import equinox as eqx

    Layer = _vit_layer(width, heads)

    class ViT(eqx.Module):
        embed: eqx.nn.Conv2d
        position: jax.Array
        layers: list
        head: eqx.nn.Linear

        def __init__(self, key):
            keys = jax.random.split(key, depth + 2)
            self.embed = eqx.nn.Conv2d(3, width, patch, patch, key=keys[0])
            self.position = jnp.zeros(((size // patch) ** 2, width))
            self.layers = [Layer(k) for k in keys[2:]]
            self.head = eqx.nn.Linear(width, 1000, key=keys[1])

        def __call__(self, image):
            x = self.embed(image).reshape(width, -1).T + self.position
            for layer in self.layers:
                x = layer(x)
            return self.head(jnp.mean(x, axis=0))

    # Arrays are the parameters; the rest of the module (functions, sizes) is static.
    shapes = eqx.filter_eval_shape(ViT, jax.random.key(0))
    params, static = eqx.partition(shapes, lambda leaf: isinstance(leaf, Shape))

    def loss(params, x, y):
        return classification_loss(jax.vmap(eqx.combine(params, static))(x), y)

    batched = {"x": _f32(batch, 3, size, size), "y": Shape((batch,), jnp.int32)}
    return Model(loss, params, batched)


def smollm2(batch=4, length=128, dtype="float32") -> Model:
    """SmolLM2-135M's shape, next-token loss."""
    from zojax.lm import llama
    from zojax.lm._smollm2 import CONFIG

    def loss(params, tokens):
        return next_token_loss(llama.forward(CONFIG, params, tokens), tokens)

    init = partial(llama.init, config=CONFIG, dtype=jnp.dtype(dtype))
    params = jax.eval_shape(init, jax.random.key(0))
    return Model(loss, params, _tokens(batch, length))


def smollm2_on_reviews(batch=8, length=128, weights="float32") -> Model:
    """SmolLM2-135M's shape, a choice between two next words; "4-bit" are the types of its GGUF file."""
    from zojax.lm import llama
    from zojax.lm._smollm2 import CONFIG

    words, last = np.array([5, 7]), np.full(batch, length - 1)

    def loss(params, tokens, label):
        logits = llama.forward(CONFIG, params, tokens, positions=last, rows=words)
        return classification_loss(logits, label)

    shapes, is_shape = llama.shapes(CONFIG), lambda shape: isinstance(shape, tuple)
    if weights == "4-bit":
        params = jax.tree.map_with_path(_blocks, shapes, is_leaf=is_shape)
    else:
        params = jax.tree.map(lambda s: Shape(s, jnp.dtype(weights)), shapes, is_leaf=is_shape)
    return Model(loss, params, _tokens(batch, length) | {"label": Shape((batch,), jnp.int32)})


def _blocks(path, shape):
    """Q8_0 for the embedding, Q4_1 for the matrices of layers, float32 for gains."""
    from zojax import lm

    name, (*stack, rows, columns) = path[-1].key, shape if len(shape) > 1 else (*shape, 1)
    if "norm" in name:
        return _f32(*shape)
    if name == "embed":
        blocks = (rows, columns // 32)
        return lm.Quantized(Shape((*blocks, 32), jnp.int8), Shape(blocks, jnp.float16), None)
    blocks = (*stack, columns, rows // 32)
    half = Shape(blocks, jnp.float16)
    return lm.Quantized(Shape((*blocks, 16), jnp.uint8), half, half, transposed=True)


def opt(layers, width, heads) -> Model:
    """An OPT shape in bfloat16, batch 1 x 400 tokens."""
    from zojax.lm import gpt

    config = gpt.Config(50272, width, layers, heads, 4 * width, 2050, "relu", first_position=2)

    def loss(params, tokens):
        return next_token_loss(gpt.forward(config, params, tokens), tokens)

    return Model(loss, _bf16(gpt.shapes(config)), _tokens(1, 400))


def _bf16(shapes):
    shape = partial(Shape, dtype=jnp.bfloat16)
    return jax.tree.map(shape, shapes, is_leaf=lambda x: isinstance(x, tuple))


def llama(tied=True, extra=(), **config) -> Model:
    """A Llama-like shape in bfloat16, batch 1 x 400 tokens; `extra` names optional parameters."""
    from zojax.lm import llama

    config = llama.Config(**config)
    shapes, more = llama.shapes(config), llama.optional_shapes(config)
    shapes["layers"] |= {name: more[name] for name in extra}
    if not tied:
        shapes["head"] = shapes["embed"]

    def loss(params, tokens):
        return next_token_loss(llama.forward(config, params, tokens), tokens)

    return Model(loss, _bf16(shapes), _tokens(1, 400))


def adapters(rank=8, **settings) -> Model:
    """LoRA of query and value of a Llama-like shape: the trained part; the rest is in the batch."""
    whole = llama(**settings)
    layers, trained = whole.params["layers"], {}
    for name in ("query", "value"):
        depth, inner, outer = layers[name].shape
        trained |= {f"{name}_a": (depth, inner, rank), f"{name}_b": (depth, rank, outer)}

    def loss(params, frozen, tokens):
        return whole.loss({**frozen, "layers": frozen["layers"] | params}, tokens)

    return Model(loss, _bf16(trained), {"frozen": whole.params, **whole.batch})


def llama_70b(layers: int) -> Model:
    """Layers of Llama 2 70B in bfloat16, batch 1 x 400 tokens."""
    sizes = dict(vocabulary=32000, width=8192, heads=64, kv_heads=8, hidden=28672)
    return llama(layers=layers, rope_theta=1e4, **sizes)


def sphere(d: int) -> Model:
    """sum x^2: all cost is noise and memory traffic."""
    return Model(lambda x: jnp.sum(x * x), _f32(d), {})


def rosenbrock(d: int) -> Model:
    """sum 100 (x_{i+1} - x_i^2)^2 + (1 - x_i)^2."""

    def loss(x):
        here, there = x[:-1], x[1:]
        return jnp.sum(100 * jnp.square(there - here * here) + jnp.square(1 - here))

    return Model(loss, _f32(d), {})


def leaf(shape) -> Model:
    """One leaf to perturb, and no loss."""
    return Model(lambda p, seed: jnp.sum(p), _f32(*shape), {"seed": Shape((2,), jnp.uint32)})


def members(model, pairs, **settings) -> Model:
    """A model with a leading axis of antithetic pairs in its batch: examples for each pair."""
    loss, params, batch = {"mlp": mlp, "transformer": transformer}[model](**settings)
    return Model(loss, params, {k: Shape((pairs, *x.shape), x.dtype) for k, x in batch.items()})
