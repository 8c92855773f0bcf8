"""A Llama-shaped language model in pure JAX: a config, a dict of arrays, one function.

Layers are stacked on a leading axis and run by `lax.scan`. So compile time does not grow with depth, and a
zeroth-order step perturbs one layer at a time. Sequences are padded on the right; causal attention needs no
mask for that.

Two arguments of `forward` keep classification cheap: `positions` selects tokens of each row, `rows` selects
entries of the vocabulary. Its halves `blocks` and `readout` let you run frozen lower layers once.

Source: Touvron et al., "LLaMA: Open and Efficient Foundation Language Models",
https://arxiv.org/abs/2302.13971.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike, DTypeLike

from zojax.lm.models.attention import attend, positions_of, read, with_past

__all__ = [
    "Config",
    "bias_shapes",
    "blocks",
    "extend",
    "forward",
    "frequencies",
    "init",
    "logits",
    "readout",
    "shapes",
]


class Config(NamedTuple):
    """The shape of a model.

    Attributes:
      vocabulary: number of token ids.
      width: size of the residual stream.
      layers: number of blocks.
      heads: number of query heads.
      kv_heads: number of key and value heads; divides `heads`.
      hidden: width of the SwiGLU.
      rope_theta: base of the rotary frequencies.
      epsilon: added to the mean square in RMSNorm.
    """

    vocabulary: int
    width: int
    layers: int
    heads: int
    kv_heads: int
    hidden: int
    rope_theta: float = 1e5
    epsilon: float = 1e-5


def shapes(config: Config) -> dict:
    """The shape of every parameter, in the structure that `forward` takes.

    Returns:
      `{"embed": (V, D), "layers": {name: (L, ...)}, "norm": (D,)}`; matrices map from their
      second-last axis to their last.
    """
    depth, width, hidden = config.layers, config.width, config.hidden
    kv_width = width // config.heads * config.kv_heads
    layers = {
        "attention_norm": (depth, width),
        "query": (depth, width, width),
        "key": (depth, width, kv_width),
        "value": (depth, width, kv_width),
        "output": (depth, width, width),
        "mlp_norm": (depth, width),
        "gate": (depth, width, hidden),
        "up": (depth, width, hidden),
        "down": (depth, hidden, width),
    }
    return {"embed": (config.vocabulary, width), "layers": layers, "norm": (width,)}


def bias_shapes(config: Config) -> dict[str, tuple[int, ...]]:
    """The shapes of Qwen2's further parameters of layers: biases of query, key and value."""
    kv_width = config.width // config.heads * config.kv_heads
    widths = {"query_bias": config.width, "key_bias": kv_width, "value_bias": kv_width}
    return {name: (config.layers, width) for name, width in widths.items()}


def init(key: jax.Array, config: Config, dtype: DTypeLike = jnp.float32) -> dict:
    """Random parameters: normal matrices of variance 1 / fan-in, gains of one.

    Returns:
      A dict of arrays with the shapes of `shapes`.
    """
    spec, treedef = jax.tree.flatten_with_path(shapes(config), lambda x: isinstance(x, tuple))
    leaves = []
    for k, (path, shape) in zip(jax.random.split(key, len(spec)), spec, strict=True):
        is_gain = "norm" in path[-1].key
        drawn = jnp.ones(shape) if is_gain else jax.random.normal(k, shape) / shape[-2] ** 0.5
        leaves.append(drawn.astype(dtype))
    return jax.tree.unflatten(treedef, leaves)


def forward(
    config: Config,
    params: dict,
    tokens: ArrayLike,
    *,
    positions: ArrayLike | None = None,
    rows: ArrayLike | None = None,
) -> jax.Array:
    """Next-token logits.

    Args:
      params: a dict as from `init`, float32 or bfloat16. `params["head"]`, `(V, D)`, is a readout other
        than the embedding. `params["layers"]` may also have

        - `attention_shift` and `mlp_shift`, `(L, D)`: added to the output of a norm;
        - `query_bias`, `key_bias` and `value_bias`, as in Qwen2;
        - `query_a` `(L, D, r)` and `query_b` `(L, r, D)`, as in LoRA: `x @ a @ b` is added to the query,
          and so for key and value;
        - `prefix_key` and `prefix_value`, `(L, m, K)`: rotated keys, and values, of m positions before
          the text.
      tokens: `(B, T)` integers, padded on the right with any id.
      positions: `(B,)` or `(B, C)` integers, the positions read in each row; None reads all.
      rows: `(K,)` integers, the token ids that get a logit; None gives all of them.

    Returns:
      float32 logits, `(B, T, V)`; without `T` where `positions` is given, and with `K`
      in place of `V` where `rows` is.

    >>> config = Config(vocabulary=16, width=8, layers=2, heads=2, kv_heads=1, hidden=8)
    >>> params, tokens = init(jax.random.key(0), config), jnp.array([[3, 1, 4], [1, 5, 0]])
    >>> forward(config, params, tokens).shape
    (2, 3, 16)
    >>> forward(config, params, tokens, positions=jnp.array([2, 1]), rows=jnp.array([7, 9])).shape
    (2, 2)
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
    seen: jax.Array | None = None,
) -> tuple[jax.Array, Any]:
    """The residual stream of new tokens, and their keys and values for later tokens.

    Args:
      params: as for `forward`.
      tokens: `(B, T)` integers.
      past: keys and values `(L, B, P, K)` of the earlier tokens, as returned; None at the beginning.
      start: the position of the first token, an integer or `(B,)` integers; None: right after the past.
      seen: `(B, P)` bools, the filled places of the past; None for all.

    Returns:
      `(x, (keys, values))`: `(B, T, D)` before the last norm, and `(L, B, T, K)` each.
    """
    layers, tokens = params["layers"], jnp.asarray(tokens)
    positions, bound = positions_of(layers, past, start, tokens.shape[1])
    angles = _angles(config, bound, positions)
    return _run(config, layers, params["embed"][tokens], angles, past, seen)


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
    return readout(config, params["norm"], head, x, positions=positions)


def blocks(config: Config, layers: dict, x: jax.Array) -> jax.Array:
    """Runs a stack of layers: `forward` between its embedding and its readout.

    Args:
      config: a `Config`; its number of layers is unused.
      layers: a dict like `params["layers"]` of `forward`, of any depth.
      x: `(B, T, D)` residual stream.

    Returns:
      `(B, T, D)`, in the dtype of `x`.
    """
    length = x.shape[1]
    return _run(config, layers, x, _angles(config, length, np.arange(length)))[0]


def readout(
    config: Config,
    gain: jax.Array,
    embed: jax.Array,
    x: jax.Array,
    *,
    positions: ArrayLike | None = None,
) -> jax.Array:
    """Logits from the residual stream.

    Args:
      gain: `(D,)`, of the final norm.
      embed: `(K, D)`, embeddings of the tokens that get a logit.
      x: `(B, T, D)` residual stream.
      positions: `(B,)` or `(B, C)` integers, the positions read in each row; None reads all.

    Returns:
      float32 logits, `(B, T, K)`, `(B, C, K)` or `(B, K)` where `positions` is given.
    """
    x = _rms_norm(read(x, positions), gain, config)
    return jnp.einsum("...d,vd->...v", x, embed, preferred_element_type=jnp.float32)


def _run(config, layers, x, angles, past=None, seen=None):
    def block(x, layer_and_past):
        layer, past = layer_and_past
        y = _rms_norm(x, layer["attention_norm"], config) + layer.get("attention_shift", 0)
        mixed, own = _attention(config, layer, y, angles, past, seen)
        x = x + mixed
        y = _rms_norm(x, layer["mlp_norm"], config) + layer.get("mlp_shift", 0)
        return x + (jax.nn.silu(y @ layer["gate"]) * (y @ layer["up"])) @ layer["down"], own

    return jax.lax.scan(block, x, (layers, past))


def _rms_norm(x, gain, config):
    wide = x.astype(jnp.float32)  # a mean of squares loses too much in bfloat16
    scale = jax.lax.rsqrt(jnp.mean(wide**2, axis=-1, keepdims=True) + config.epsilon)
    return (wide * scale).astype(x.dtype) * gain


def _attention(config, layer, x, angles, past, seen):
    batch, length, width = x.shape
    size, groups = width // config.heads, config.heads // config.kv_heads
    query = _projected(layer, "query", x).reshape(batch, length, config.kv_heads, groups, size)
    key = _projected(layer, "key", x).reshape(batch, length, config.kv_heads, 1, size)
    query, key = _rotate(query, angles), _rotate(key, angles)  # cached keys are rotated already
    own = key.reshape(batch, length, -1), _projected(layer, "value", x)
    keys, values = with_past(layer, own, past, config.kv_heads)
    return attend(query, keys, values, seen) @ layer["output"], own


def _projected(layer, name, x):
    y, bias = x @ layer[name], layer.get(f"{name}_bias")  # Qwen2 has biases, Llama has none
    if f"{name}_a" in layer:
        y = y + (x @ layer[f"{name}_a"]) @ layer[f"{name}_b"]
    return y if bias is None else y + bias


def frequencies(config: Config) -> np.ndarray:
    """`(size / 2,)` float64, the rotary frequencies of a head."""
    size = config.width // config.heads
    return config.rope_theta ** (-np.arange(0, size, 2) / size)


def _angles(config, bound, positions):
    # Half-split rotary embedding: entry i of a head is paired with entry i + size / 2.
    angles = np.arange(bound)[:, None] * frequencies(config)
    tables = np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
    return tuple(jnp.asarray(table)[positions] for table in tables)


def _rotate(x, angles):
    cos, sin = (a[..., None, None, :].astype(x.dtype) for a in angles)
    left, right = jnp.split(x, 2, axis=-1)
    return jnp.concatenate([left * cos - right * sin, right * cos + left * sin], axis=-1)
