"""BERT- and RoBERTa-shaped encoders in pure JAX: each token sees all others, norms follow the blocks.

They have one of two heads. `forward` fills masks: logits of the vocabulary at each token. `classify`
chooses a label from the first token. Layers are stacked and scanned as in `zojax.lm.llama`.

Sources: Devlin et al., "BERT", https://arxiv.org/abs/1810.04805; Liu et al., "RoBERTa",
https://arxiv.org/abs/1907.11692.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from zojax.lm.models import gpt
from zojax.lm.models.attention import attend, read
from zojax.lm.models.layers import layer_norm, linear, too_long

__all__ = ["Config", "classify", "encode", "forward", "limit", "shapes"]


class Config(NamedTuple):
    """The shape of a model.

    Attributes:
      vocabulary: number of token ids.
      width: size of the residual stream.
      layers: number of blocks.
      heads: number of heads.
      hidden: width of the multilayer perceptron.
      positions: rows of the table of positions.
      labels: of `classify`; None: the head of `forward`.
      types: rows of the table of token types; the first is used.
      padding: the token that fills rows up, unseen.
      activation: of the perceptron, one of `zojax.lm.gpt.ACTIVATIONS`.
      head_activation: of the head of `forward`.
      first_position: the row of the first token: 0 for BERT, 2 for RoBERTa.
      epsilon: added to the variance in layer norms.
    """

    vocabulary: int
    width: int
    layers: int
    heads: int
    hidden: int
    positions: int
    labels: int | None = None
    types: int = 2
    padding: int = 0
    activation: str = "gelu"
    head_activation: str = "gelu"
    first_position: int = 0
    epsilon: float = 1e-12


def shapes(config: Config) -> dict:
    """The shape of every parameter, in the structure that `forward` and `classify` take."""
    width = config.width
    # The first six sizes are those of gpt.Config; its layers and tables have the same shapes.
    found = gpt.shapes(gpt.Config(*config[:6])) | {"types": (config.types, width)}
    found |= {"head_dense": (width, width), "head_dense_bias": (width,)}
    if config.labels is None:
        found |= {"head_norm": (width,), "head_norm_bias": (width,)}
        found |= {"head_bias": (config.vocabulary,)}
    else:
        found |= {"labels": (width, config.labels), "labels_bias": (config.labels,)}
    return found


def limit(config: Config) -> int:
    """The most tokens of a text."""
    return config.positions - config.first_position


def encode(config: Config, params: dict, tokens: ArrayLike) -> jax.Array:
    """The last layer's output.

    Args:
      params: a dict of the shapes of `shapes`, float32 or bfloat16. A layer's `query_a` and `query_b` are
        LoRA's factors, and so for each other matrix.
      tokens: `(B, T)` integers; `config.padding` is unseen.

    Returns:
      `(B, T, D)`.

    Raises:
      ValueError: for more tokens than positions.
    """
    tokens = jnp.asarray(tokens)
    (rows, length), heads, most = tokens.shape, config.heads, limit(config)
    if length > most:
        raise too_long(most, length)
    visible = jnp.broadcast_to((tokens != config.padding)[:, None], (rows, length, length))
    x = params["embed"][tokens] + params["types"][0]
    x = x + params["positions"][config.first_position + np.arange(length)]

    def block(x, layer):
        parts = (linear(layer, name, x) for name in ("query", "key", "value"))
        query, key, value = (y.reshape(rows, length, heads, -1) for y in parts)
        y = linear(layer, "output", attend(query[:, :, :, None], key, value, visible))
        x = layer_norm(layer, "attention_norm", x + y, config.epsilon)
        y = gpt.ACTIVATIONS[config.activation](linear(layer, "up", x))
        return layer_norm(layer, "mlp_norm", x + linear(layer, "down", y), config.epsilon), None

    x = layer_norm(params, "norm", x, config.epsilon)
    return jax.lax.scan(block, x, params["layers"])[0]


def forward(
    config: Config,
    params: dict,
    tokens: ArrayLike,
    *,
    positions: ArrayLike | None = None,
    rows: ArrayLike | None = None,
) -> jax.Array:
    """Logits of the vocabulary at each token, or at `positions`, where the masks are.

    Args:
      params, tokens: as for `encode`. `params["head"]`, `(V, D)`, is a readout other than the embedding.
      positions, rows: as for `zojax.lm.llama.forward`.

    Returns:
      float32 logits, `(B, T, V)`; without `T` where `positions` is given, and with `K` in place of `V`
      where `rows` is.

    Raises:
      ValueError: for a model that was made for `classify`.
    """
    if config.labels is not None:
        raise ValueError(f"this model chooses one of {config.labels} labels; call classify.")
    x = linear(params, "head_dense", read(encode(config, params, tokens), positions))
    x = gpt.ACTIVATIONS[config.head_activation](x)
    x = layer_norm(params, "head_norm", x, config.epsilon)
    head, bias = params.get("head", params["embed"]), params["head_bias"]
    if rows is not None:
        head, bias = head[rows], bias[rows]
    return jnp.einsum("...d,vd->...v", x, head, preferred_element_type=jnp.float32) + bias


def classify(config: Config, params: dict, tokens: ArrayLike) -> jax.Array:
    """Logits of the labels, `(B, labels)` float32, from the first token of each row.

    Raises ValueError for a model that was made for `forward`.
    """
    if config.labels is None:
        raise ValueError("this model fills masks; call forward.")
    x = jnp.tanh(linear(params, "head_dense", encode(config, params, tokens)[:, 0]))
    return linear(params, "labels", x).astype(jnp.float32)
