"""Layers of flax.linen."""

import jax
from flax import linen as nn

from benchmarks.models import Model
from benchmarks.zoo.data import KEY, distance, normal, tokens


def _of(module: nn.Module, x) -> Model:
    variables = jax.jit(module.init)(KEY, x)
    rest = {name: tree for name, tree in variables.items() if name != "params"}

    def loss(params, x):
        return distance(module.apply({"params": params, **rest}, x, mutable=list(rest))[0])

    return Model(loss, variables["params"], {"x": x})


def _chain(x, *layers) -> Model:
    return _of(nn.Sequential(layers), x)


def _flat(x):
    return x.reshape(x.shape[0], -1)


def mlp() -> Model:
    """Three dense layers."""
    x = normal(32, 784)
    return _chain(x, nn.Dense(256), nn.relu, nn.Dense(256), nn.relu, nn.Dense(10))


def lenet() -> Model:
    """LeNet-5: 5 x 5 kernels from 1 and 6 channels."""

    def pool(x):
        return nn.avg_pool(x, (2, 2), (2, 2))

    first = (nn.Conv(6, (5, 5)), nn.tanh, pool, nn.Conv(16, (5, 5), padding="VALID"), nn.tanh, pool)
    last = (_flat, nn.Dense(120), nn.tanh, nn.Dense(84), nn.tanh, nn.Dense(10))
    return _chain(normal(8, 28, 28, 1), *first, *last)


def dqn() -> Model:
    """The network of DQN: a first kernel (8, 8, 4, 32)."""
    convolutions = [
        layer
        for features, size, stride in ((32, 8, 4), (64, 4, 2), (64, 3, 1))
        for layer in (nn.Conv(features, (size, size), (stride, stride), padding="VALID"), nn.relu)
    ]
    return _chain(normal(4, 84, 84, 4), *convolutions, _flat, nn.Dense(512), nn.relu, nn.Dense(6))


def alexnet_first() -> Model:
    """AlexNet's first two convolutions: kernels (11, 11, 3, 64) and (5, 5, 64, 192)."""

    def pool(x):
        return nn.max_pool(x, (3, 3), (2, 2))

    layers = (nn.Conv(64, (11, 11), (4, 4)), nn.relu, pool, nn.Conv(192, (5, 5)), nn.relu, pool)
    return _chain(normal(1, 128, 128, 3), *layers)


class _ResNetBlock(nn.Module):
    @nn.compact
    def __call__(self, x):
        norm = lambda y: nn.BatchNorm(use_running_average=False)(y)  # noqa: E731
        y = nn.relu(norm(nn.Conv(128, (3, 3), (2, 2), use_bias=False)(x)))
        y = norm(nn.Conv(128, (3, 3), use_bias=False)(y))
        return nn.relu(y + norm(nn.Conv(128, (1, 1), (2, 2), use_bias=False)(x)))


def resnet_block() -> Model:
    """A strided residual block with batch norm in training."""
    return _of(_ResNetBlock(), normal(4, 16, 16, 64))


class _ConvNext(nn.Module):
    width: int

    @nn.compact
    def __call__(self, x):
        y = nn.Conv(self.width, (7, 7), feature_group_count=self.width)(x)
        y = nn.Dense(self.width)(nn.gelu(nn.Dense(4 * self.width)(nn.LayerNorm()(y))))
        return x + y * self.param("layer_scale", nn.initializers.constant(0.1), (self.width,))


def convnext_block() -> Model:
    """ConvNeXt: a depthwise 7 x 7 kernel, an inverted bottleneck, layer scale."""
    return _of(_ConvNext(96), normal(4, 14, 14, 96))


def vit_patches() -> Model:
    """The patch embedding of ViT-B/32: a kernel (32, 32, 3, 768)."""
    layers = nn.Conv(768, (32, 32), (32, 32)), lambda x: x.reshape(x.shape[0], -1, 768)
    return _chain(normal(2, 128, 128, 3), *layers, nn.LayerNorm(), nn.Dense(10))


def transposed_convolutions() -> Model:
    """A decoder of transposed convolutions."""
    layers = nn.ConvTranspose(64, (4, 4), (2, 2)), nn.relu, nn.ConvTranspose(3, (4, 4), (2, 2))
    return _chain(normal(4, 8, 8, 128), *layers)


class _Tied(nn.Module):
    @nn.compact
    def __call__(self, x):
        embed = nn.Embed(2048, 256)
        return embed.attend(nn.LayerNorm()(embed(x)))


def tied_embedding() -> Model:
    """An embedding that is the output layer too."""
    return _of(_Tied(), tokens(2, 32, below=2048))


class _Attention(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.MultiHeadDotProductAttention(8)(x, mask=nn.make_causal_mask(x[..., 0]))


def attention() -> Model:
    """Causal MultiHeadDotProductAttention."""
    return _of(_Attention(), normal(2, 32, 256))


class _Layer(nn.Module):
    @nn.compact
    def __call__(self, x, _=None):
        y = nn.LayerNorm()(x)
        x = x + nn.MultiHeadDotProductAttention(8)(y, mask=nn.make_causal_mask(y[..., 0]))
        return x + nn.Dense(x.shape[-1])(nn.gelu(nn.Dense(1024)(nn.LayerNorm()(x))))


def transformer() -> Model:
    """A pre-norm transformer block."""
    return _of(_Layer(), normal(2, 32, 256))


def norms() -> Model:
    """Batch, layer, group, instance and RMS norm between dense layers."""
    kinds = nn.BatchNorm(False), nn.LayerNorm(), nn.GroupNorm(8), nn.InstanceNorm(), nn.RMSNorm()
    layers = [layer for norm in kinds for layer in (nn.Dense(128), norm, nn.relu)]
    return _chain(normal(4, 16, 128), *layers, nn.Dense(10))


class _Normed(nn.Module):
    kind: type

    @nn.compact
    def __call__(self, x):
        options = {} if self.kind is nn.WeightNorm else {"update_stats": True}
        x = nn.relu(self.kind(nn.Dense(256))(x, **options))
        return self.kind(nn.Dense(64))(x, **options)


def weight_norm() -> Model:
    """WeightNorm around dense layers."""
    return _of(_Normed(nn.WeightNorm), normal(32, 256))


def spectral_norm() -> Model:
    """SpectralNorm around dense layers, with a step of its power iteration."""
    return _of(_Normed(nn.SpectralNorm), normal(32, 256))


def lstm() -> Model:
    """OptimizedLSTMCell under RNN."""
    return _of(nn.RNN(nn.OptimizedLSTMCell(256)), normal(8, 16, 128))


def gru() -> Model:
    """Two directions of GRUCell under RNN."""
    forward, backward = nn.RNN(nn.GRUCell(128)), nn.RNN(nn.GRUCell(128))
    return _of(nn.Bidirectional(forward, backward), normal(8, 16, 128))


class _Scanned(nn.Module):
    @nn.compact
    def __call__(self, x):
        class Step(nn.Module):
            @nn.compact
            def __call__(self, x, _):
                return _Layer()(x), None

        options = {"variable_axes": {"params": 0}, "split_rngs": {"params": True}, "length": 3}
        return nn.scan(nn.remat(Step), **options)()(x, None)[0]


def scanned_layers() -> Model:
    """Three transformer blocks under scan and remat."""
    return _of(_Scanned(), normal(2, 32, 128))


class _Heads(nn.Module):
    @nn.compact
    def __call__(self, x):
        y = nn.DenseGeneral((8, 32))(x)
        y = nn.Einsum((8, 32, 32), "bthd,hde->bthe")(y)
        return nn.DenseGeneral(x.shape[-1], axis=(-2, -1))(y)


def einsum_heads() -> Model:
    """DenseGeneral into heads, an Einsum for each head, DenseGeneral back."""
    return _of(_Heads(), normal(2, 32, 256))
