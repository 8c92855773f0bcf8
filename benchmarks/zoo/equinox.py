"""Layers of Equinox."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax

from benchmarks.models import Model
from benchmarks.zoo.data import KEY, distance, normal, tokens

KEYS = jax.random.split(KEY, 8)


def of(model, x, apply=lambda model, x: jax.vmap(model)(x)) -> Model:
    """A module with its float arrays as parameters."""
    params, static = eqx.partition(model, eqx.is_inexact_array)

    def loss(params, x):
        return distance(apply(eqx.combine(params, static), x))

    return Model(loss, params, {"x": x})


def mlp() -> Model:
    """eqx.nn.MLP of depth 2."""
    return of(eqx.nn.MLP(256, 10, 256, 2, key=KEY), normal(32, 256))


def convolutions() -> Model:
    """Conv2d, grouped Conv2d, pooling, GroupNorm, Linear; channels first."""
    layers = [
        eqx.nn.Conv2d(3, 32, 3, 2, 1, key=KEYS[0]),
        eqx.nn.GroupNorm(4, 32),
        eqx.nn.Lambda(jax.nn.relu),
        eqx.nn.Conv2d(32, 64, 3, 1, 1, groups=4, key=KEYS[1]),
        eqx.nn.MaxPool2d(2, 2),
        eqx.nn.Lambda(jnp.ravel),
        eqx.nn.Linear(64 * 64, 10, key=KEYS[2]),
    ]
    return of(eqx.nn.Sequential(layers), normal(4, 3, 32, 32))


def transposed() -> Model:
    """ConvTranspose2d."""
    layers = [
        eqx.nn.ConvTranspose2d(64, 32, 4, 2, 1, key=KEYS[0]),
        eqx.nn.Lambda(jax.nn.relu),
        eqx.nn.ConvTranspose2d(32, 3, 4, 2, 1, key=KEYS[1]),
    ]
    return of(eqx.nn.Sequential(layers), normal(4, 64, 8, 8))


class _Attention(eqx.Module):
    embed: eqx.nn.Embedding
    norm: eqx.nn.RMSNorm
    rotary: eqx.nn.RotaryPositionalEmbedding
    attention: eqx.nn.MultiheadAttention

    def __call__(self, ids):
        def rotate(q, k, v):
            return jax.vmap(self.rotary, 1, 1)(q), jax.vmap(self.rotary, 1, 1)(k), v

        y = jax.vmap(self.norm)(jax.vmap(self.embed)(ids))
        return self.attention(y, y, y, process_heads=rotate)


def rotary_attention() -> Model:
    """Embedding, RMSNorm, MultiheadAttention with rotary positions."""
    model = _Attention(
        eqx.nn.Embedding(1024, 128, key=KEYS[0]),
        eqx.nn.RMSNorm(128),
        eqx.nn.RotaryPositionalEmbedding(16),
        eqx.nn.MultiheadAttention(8, 128, key=KEYS[1]),
    )
    return of(model, tokens(2, 32, below=1024))


def _scan(cell, start):
    def apply(cell, x):
        return lax.scan(lambda h, y: (cell(y, h), None), start, x)[0]

    def outputs(cell, x):
        return jax.vmap(apply, (None, 0))(cell, x)

    return outputs


def gru() -> Model:
    """GRUCell under scan."""
    cell = eqx.nn.GRUCell(128, 128, key=KEY)
    return of(cell, normal(8, 16, 128), _scan(cell, jnp.zeros(128)))


def lstm() -> Model:
    """LSTMCell under scan."""
    cell = eqx.nn.LSTMCell(128, 128, key=KEY)
    outputs = _scan(cell, (jnp.zeros(128), jnp.zeros(128)))
    return of(cell, normal(8, 16, 128), lambda cell, x: outputs(cell, x)[0])


def weight_norm() -> Model:
    """WeightNorm around Linear."""
    return of(eqx.nn.WeightNorm(eqx.nn.Linear(256, 256, key=KEY), axis=0), normal(32, 256))


def spectral_norm() -> Model:
    """SpectralNorm around Linear."""
    layer = eqx.nn.Linear(256, 256, key=KEYS[0])
    norm, state = eqx.nn.make_with_state(eqx.nn.SpectralNorm)(layer, "weight", key=KEYS[1])
    leaves, structure = jax.tree.flatten(state)

    def apply(norm, x):
        fresh = structure.unflatten(leaves)  # a state may be used once
        return jax.vmap(lambda y: norm(y, fresh)[0])(x)

    return of(norm, normal(32, 256), apply)


def ensemble() -> Model:
    """Eight MLPs, made and run by filter_vmap."""
    models = eqx.filter_vmap(lambda key: eqx.nn.MLP(64, 10, 128, 1, key=key))(KEYS)

    def apply(models, x):
        return eqx.filter_vmap(lambda model: jax.vmap(model)(x))(models)

    return of(models, normal(32, 64), apply)
