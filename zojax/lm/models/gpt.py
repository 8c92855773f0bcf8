"""GPT-2- and OPT-shaped language models in pure JAX: learned positions, layer norms, biases everywhere.

They differ in the activation and in the first position. As in `zojax.lm.llama`, layers are stacked and
scanned, and sequences are padded on the right, unseen by causal attention.

Sources: Radford et al., "Language Models are Unsupervised Multitask Learners", 2019; Zhang et al.,
"OPT: Open Pre-trained Transformer Language Models", https://arxiv.org/abs/2205.01068.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from zojax.lm.models.attention import attend, places_of, read, through_layers, with_past
from zojax.lm.models.layers import layer_norm, linear, too_long

__all__ = ["ACTIVATIONS", "Config", "extend", "forward", "limit", "logits", "shapes"]

ACTIVATIONS = {
    "gelu_new": jax.nn.gelu,  # the approximation by tanh
    "gelu": lambda x: jax.nn.gelu(x, approximate=False),
    "relu": jax.nn.relu,
}


class Config(NamedTuple):
    """The shape of a model.

    Attributes:
      vocabulary: number of token ids.
      width: size of the residual stream.
      layers: number of blocks.
      heads: number of heads.
      hidden: width of the multilayer perceptron.
      positions: rows of the table of positions.
      activation: one of `ACTIVATIONS`.
      first_position: the row of the first token: 0 for GPT-2, 2 for OPT.
      epsilon: added to the variance in layer norms.
    """

    vocabulary: int
    width: int
    layers: int
    heads: int
    hidden: int
    positions: int
    activation: str = "gelu_new"
    first_position: int = 0
    epsilon: float = 1e-5


def shapes(config: Config) -> dict:
    """The shape of every parameter, in the structure that `forward` takes.

    Returns:
      `{"embed", "positions", "layers": {name: (L, ...)}, "norm", "norm_bias"}`; matrices map from
      their second-last axis to their last.
    """
    depth, width, hidden = config.layers, config.width, config.hidden
    square, vector = (depth, width, width), (depth, width)
    layers: dict = {"up": (depth, width, hidden), "up_bias": (depth, hidden)}
    layers |= {"down": (depth, hidden, width), "down_bias": vector}
    for name in ("query", "key", "value", "output"):
        layers |= {name: square, f"{name}_bias": vector}
    for name in ("attention_norm", "mlp_norm"):
        layers |= {name: vector, f"{name}_bias": vector}
    outer = {"embed": (config.vocabulary, width), "positions": (config.positions, width)}
    return outer | {"layers": layers, "norm": (width,), "norm_bias": (width,)}


def limit(config: Config) -> int:
    """The most tokens of a text, with its prefix."""
    return config.positions - config.first_position


def forward(
    config: Config,
    params: dict,
    tokens: ArrayLike,
    *,
    positions: ArrayLike | None = None,
    rows: ArrayLike | None = None,
) -> jax.Array:
    """Next-token logits, as `zojax.lm.llama.forward`.

    Args:
      params: a dict of the shapes of `shapes`, float32 or bfloat16. `"head"`, `(V, D)`, is a readout
        other than the embedding. A layer's `query_a` and `query_b` are LoRA's factors and
        `prefix_key` and `prefix_value` a prefix.
      tokens, positions, rows: as there.
    """
    x, _ = extend(config, params, tokens)
    return logits(config, params, x, positions=positions, rows=rows)


def extend(
    config: Config,
    params: dict,
    tokens: ArrayLike,
    *,
    past: Any = None,
    start: ArrayLike | None = None,
    tree: np.ndarray | None = None,
) -> tuple[jax.Array, Any]:
    """The residual stream of new tokens and their keys and values, as in `llama.extend`."""
    layers, tokens = params["layers"], jnp.asarray(tokens)
    places, most = places_of(layers, past, start, tokens.shape[1], tree), limit(config)
    if start is None and places.bound > most:
        raise too_long(most, places.bound)
    positions = places.new if start is None else jnp.minimum(places.new, most - 1)
    x = params["embed"][tokens] + params["positions"][config.first_position + positions]

    def block(x, layer, past, kind):
        del kind
        y = layer_norm(layer, "attention_norm", x, config.epsilon)
        mixed, own = _attention(config, layer, y, places.visible, past)
        x = x + mixed
        y = layer_norm(layer, "mlp_norm", x, config.epsilon)
        hidden = ACTIVATIONS[config.activation](linear(layer, "up", y))
        return x + linear(layer, "down", hidden), own

    return through_layers(block, x, layers, past)


def logits(
    config: Config,
    params: dict,
    x: jax.Array,
    *,
    positions: ArrayLike | None = None,
    rows: ArrayLike | None = None,
) -> jax.Array:
    """Logits `(..., V)` from the residual stream; arguments as for `forward`."""
    head = params.get("head", params["embed"])
    head = head if rows is None else head[rows]
    x = layer_norm(params, "norm", read(x, positions), config.epsilon)
    return jnp.einsum("...d,vd->...v", x, head, preferred_element_type=jnp.float32)


def _attention(config, layer, x, visible, past):
    heads, size = config.heads, config.width // config.heads
    query, key, value = (linear(layer, n, x) for n in ("query", "key", "value"))
    keys, values = with_past(layer, (key, value), past, heads)
    mixed = attend(query.reshape(*x.shape[:2], heads, 1, size), keys, values, visible)
    return linear(layer, "output", mixed), (key, value)
