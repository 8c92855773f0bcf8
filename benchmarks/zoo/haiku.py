"""Layers of Haiku."""

import haiku as hk
import jax
import jax.numpy as jnp

from benchmarks.models import Model
from benchmarks.zoo.data import KEY, distance, normal


def _of(network, x, score=distance) -> Model:
    model = hk.without_apply_rng(hk.transform_with_state(network))
    params, state = jax.jit(model.init)(KEY, x)

    def loss(params, x):
        return score(model.apply(params, state, x)[0])

    return Model(loss, params, {"x": x})


def mlp() -> Model:
    """hk.nets.MLP with layer norm."""
    return _of(
        lambda x: hk.nets.MLP([256, 256, 10])(hk.LayerNorm(-1, True, True)(x)), normal(32, 256)
    )


def resnet_block() -> Model:
    """A pre-activation block of hk.nets.ResNet."""
    norm = {"create_scale": True, "create_offset": True, "decay_rate": 0.9}

    def network(x):
        block = hk.nets.ResNet.BlockGroup(128, 1, 2, norm, True, True, True)
        return block(x, is_training=True, test_local_stats=False)

    return _of(network, normal(4, 16, 16, 64))


def separable() -> Model:
    """SeparableDepthwiseConv2D and DepthwiseConv2D, as in MobileNet."""

    def network(x):
        x = jax.nn.relu(hk.SeparableDepthwiseConv2D(2, (3, 3))(x))
        return hk.Conv2D(64, 1)(jax.nn.relu(hk.DepthwiseConv2D(1, (3, 3), 2)(x)))

    return _of(network, normal(4, 16, 16, 32))


def transposed() -> Model:
    """Conv2DTranspose."""
    return _of(
        lambda x: hk.Conv2DTranspose(3, 4, 2)(jax.nn.relu(hk.Conv2DTranspose(32, 4, 2)(x))),
        normal(4, 8, 8, 64),
    )


def _unrolled(make):
    def network(x):
        core = make()
        return hk.dynamic_unroll(core, x, core.initial_state(x.shape[1]))[0]

    return network


def lstm() -> Model:
    """LSTM under dynamic_unroll."""
    return _of(_unrolled(lambda: hk.LSTM(256)), normal(16, 8, 128))


def gru() -> Model:
    """GRU under dynamic_unroll."""
    return _of(_unrolled(lambda: hk.GRU(256)), normal(16, 8, 128))


def convolutional_lstm() -> Model:
    """Conv2DLSTM under dynamic_unroll."""
    return _of(_unrolled(lambda: hk.Conv2DLSTM((8, 8), 16, 3)), normal(6, 2, 8, 8, 4))


def vector_quantizer() -> Model:
    """VQ-VAE: a codebook, straight-through estimates, stop_gradient."""

    def network(x):
        code = hk.nets.VectorQuantizer(64, 256, 0.25)(hk.Linear(64)(x), is_training=True)
        return hk.Linear(128)(code["quantize"]), code["loss"]

    return _of(network, normal(64, 128), lambda out: distance(out[0]) + out[1])


def attention() -> Model:
    """MultiHeadAttention."""

    def network(x):
        return hk.MultiHeadAttention(8, 32, w_init=hk.initializers.VarianceScaling())(x, x, x)

    return _of(network, normal(2, 32, 256))


def layer_stack() -> Model:
    """Four layers under hk.layer_stack."""
    return _of(
        lambda x: hk.layer_stack(4)(lambda y: jnp.tanh(hk.Linear(128)(y)))(x), normal(32, 128)
    )
