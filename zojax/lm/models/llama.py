"""Llama-shaped language models in pure JAX: a config, a dict of arrays, one function.

Llama, Mistral, Qwen2, Qwen3, Phi-3, SmolLM and Gemma are one model with different settings: the `Config`
has the numbers, and biases, norms of heads and norms after a block are optional parameters.

Layers are stacked on a leading axis and run by `lax.scan`. So compile time does not grow with depth, and a
zeroth-order step perturbs one layer at a time. Sequences are padded on the right; causal attention needs no
mask for that.

Two arguments of `forward` keep classification cheap: `positions` selects tokens of each row, `rows` selects
entries of the vocabulary. Its halves `blocks` and `readout` let you run frozen lower layers once.

Sources: Touvron et al., "LLaMA: Open and Efficient Foundation Language Models",
https://arxiv.org/abs/2302.13971; Gemma Team, "Gemma 2", https://arxiv.org/abs/2408.00118.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike, DTypeLike

from zojax.lm.models.attention import Places, attend, places_of, read, through_layers, with_past
from zojax.lm.models.layers import linear

__all__ = [
    "ACTIVATIONS",
    "Config",
    "Kind",
    "blocks",
    "extend",
    "forward",
    "frequencies",
    "init",
    "limit",
    "logits",
    "optional_shapes",
    "readout",
    "shapes",
]

ACTIVATIONS = {
    "silu": jax.nn.silu,
    "gelu_pytorch_tanh": jax.nn.gelu,  # the approximation by tanh
    "gelu": lambda x: jax.nn.gelu(x, approximate=False),
}


class Kind(NamedTuple):
    """The attention of a layer.

    Attributes:
      theta: base of the rotary frequencies; None for a layer without positions, as in SmolLM3.
      factor: divides the frequencies (linear scaling), or the low ones if `bands` is given.
      bands: of Llama 3, `(low, high, original)`: wavelengths above `original / low` are scaled, those
        below `original / high` are kept, and in between it interpolates. None: all are scaled.
      window: the tokens that a token sees, itself included; None for all.
    """

    theta: float | None
    factor: float = 1.0
    bands: tuple[float, float, float] | None = None
    window: int | None = None


class Config(NamedTuple):
    """The shape of a model.

    Attributes:
      vocabulary: number of token ids.
      width: size of the residual stream.
      layers: number of blocks.
      heads: number of query heads.
      kv_heads: number of key and value heads; divides `heads`.
      hidden: width of the gated multilayer perceptron.
      rope_theta: base of the rotary frequencies, where `kinds` is empty.
      epsilon: added to the mean square in RMSNorm.
      head_size: entries of a head; None: width / heads.
      kinds: the `Kind` of each layer; empty: all layers see all tokens.
      activation: one of `ACTIVATIONS`.
      gain_offset: added to the gains of all norms; 1 in Gemma.
      embed_scale: multiplies the embedding.
      score_divisor: divides the scores of attention; None: the root of the head size.
      score_cap: bounds the scores s to `cap * tanh(s / cap)`; None does not.
      logit_cap: the same for the logits.
    """

    vocabulary: int
    width: int
    layers: int
    heads: int
    kv_heads: int
    hidden: int
    rope_theta: float = 1e5
    epsilon: float = 1e-5
    head_size: int | None = None
    kinds: tuple[Kind, ...] = ()
    activation: str = "silu"
    gain_offset: float = 0.0
    embed_scale: float = 1.0
    score_divisor: float | None = None
    score_cap: float | None = None
    logit_cap: float | None = None

    @property
    def size(self) -> int:
        """Entries of a head."""
        return self.head_size or self.width // self.heads


def shapes(config: Config) -> dict:
    """The shape of every parameter, in the structure that `forward` takes.

    Returns:
      `{"embed": (V, D), "layers": {name: (L, ...)}, "norm": (D,)}`; matrices map from their
      second-last axis to their last.
    """
    depth, width, hidden = config.layers, config.width, config.hidden
    q_width, kv_width = config.heads * config.size, config.kv_heads * config.size
    layers: dict = dict.fromkeys(("attention_norm", "mlp_norm"), (depth, width))
    layers |= {"query": (depth, width, q_width), "output": (depth, q_width, width)}
    layers |= dict.fromkeys(("key", "value"), (depth, width, kv_width))
    layers |= dict.fromkeys(("gate", "up"), (depth, width, hidden))
    layers |= {"down": (depth, hidden, width)}
    return {"embed": (config.vocabulary, width), "layers": layers, "norm": (width,)}


def optional_shapes(config: Config) -> dict[str, tuple[int, ...]]:
    """The shapes of layers' parameters that some models have.

    - `query_bias`, `key_bias`, `value_bias`: Qwen2;
    - `query_norm`, `key_norm`: gains of a norm of each head, Qwen3 and Gemma 3;
    - `attention_post_norm`, `mlp_post_norm`: gains of a norm after attention and perceptron, Gemma.
    """
    q_width, kv_width = config.heads * config.size, config.kv_heads * config.size
    widths = {"query_bias": q_width, "key_bias": kv_width, "value_bias": kv_width}
    widths |= {"query_norm": config.size, "key_norm": config.size}
    widths |= {"attention_post_norm": config.width, "mlp_post_norm": config.width}
    return {name: (config.layers, width) for name, width in widths.items()}


def limit(config: Config) -> int | None:
    """The most tokens of a text; None: any number."""
    del config
    return None


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
      params: a dict as from `init`, float32 or bfloat16; matrices may be `zojax.lm.Quantized`.
        `params["head"]`, `(V, D)`, is a readout other than the embedding. `params["layers"]` may also have

        - `attention_shift` and `mlp_shift`, `(L, D)`: added to the output of a norm;
        - the parameters of `optional_shapes`;
        - `query_a` `(L, D, r)` and `query_b` `(L, r, D)`, as in LoRA: `x @ a @ b` is added to the query,
          and so for each other matrix;
        - `prefix_key` and `prefix_value`, `(L, m, K)`: rotated keys, and values, of m positions before
          the text;
        - `upper`, a dict of the same names: further layers, see `zojax.lm.partition(..., last=)`.
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
    tree: np.ndarray | None = None,
) -> tuple[jax.Array, Any]:
    """The residual stream of new tokens, and their keys and values for later tokens.

    Args:
      params: as for `forward`.
      tokens: `(B, T)` integers.
      past: keys and values `(L, B, P, K)` of the earlier tokens, at their positions; None for no tokens.
      start: the position of the first token, an integer or `(B,)` integers; the past beyond is unseen.
        None: right after the past.
      tree: `(T, T)` bools, which new tokens each new token sees, itself included. Its position is `start`
        plus the number of others. None: a token sees all up to itself.

    Returns:
      `(x, (keys, values))`: `(B, T, D)` before the last norm, and `(L, B, T, K)` each.
    """
    layers, tokens = params["layers"], jnp.asarray(tokens)
    places = places_of(layers, past, start, tokens.shape[1], tree)
    x = jnp.asarray(params["embed"][tokens])
    if config.embed_scale != 1:
        x = x * jnp.asarray(config.embed_scale, x.dtype)
    return _run(config, layers, x, places, past)


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
      config: a `Config`; its number of layers is unused, unless its `kinds` differ.
      layers: a dict like `params["layers"]` of `forward`, of any depth.
      x: `(B, T, D)` residual stream.

    Returns:
      `(B, T, D)`, in the dtype of `x`.
    """
    return _run(config, layers, x, places_of(layers, None, None, x.shape[1]))[0]


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
    words = jnp.asarray(embed)
    found = jnp.einsum("...d,vd->...v", x, words, preferred_element_type=jnp.float32)
    cap = config.logit_cap
    return found if cap is None else cap * jnp.tanh(found / cap)


def _run(config, layers, x, places, past=None):
    views, which = _views(config, places)

    def block(x, layer, past, kind):
        view = views if kind is None else jax.tree.map(lambda table: table[kind], views)
        y = _rms_norm(x, layer["attention_norm"], config) + layer.get("attention_shift", 0)
        mixed, own = _attention(config, layer, y, view, past)
        x = x + _after(config, layer, "attention_post_norm", mixed)
        y = _rms_norm(x, layer["mlp_norm"], config) + layer.get("mlp_shift", 0)
        gate = ACTIVATIONS[config.activation](linear(layer, "gate", y))
        y = linear(layer, "down", gate * linear(layer, "up", y))
        return x + _after(config, layer, "mlp_post_norm", y), own

    return through_layers(block, x, layers, past, which)


def _rms_norm(x, gain, config):
    wide = x.astype(jnp.float32)  # a mean of squares loses too much in bfloat16
    scale = jax.lax.rsqrt(jnp.mean(wide**2, axis=-1, keepdims=True) + config.epsilon)
    if config.gain_offset:
        return (wide * scale * (config.gain_offset + gain.astype(jnp.float32))).astype(x.dtype)
    return (wide * scale).astype(x.dtype) * gain


def _after(config, layer, name, y):
    return _rms_norm(y, layer[name], config) if name in layer else y


def _attention(config, layer, x, view, past):
    (batch, length, _), size, kv_heads = x.shape, config.size, config.kv_heads
    groups, (cos, sin, visible) = config.heads // kv_heads, view
    query = linear(layer, "query", x).reshape(batch, length, kv_heads, groups, size)
    key = linear(layer, "key", x).reshape(batch, length, kv_heads, 1, size)
    query = _after(config, layer, "query_norm", query)
    key = _after(config, layer, "key_norm", key)
    query, key = _rotate(query, cos, sin), _rotate(key, cos, sin)  # cached keys are rotated already
    own = key.reshape(batch, length, -1), linear(layer, "value", x)
    keys, values = with_past(layer, own, past, kv_heads)
    options = dict(divisor=config.score_divisor, cap=config.score_cap)
    return linear(layer, "output", attend(query, keys, values, visible, **options)), own


def frequencies(kind: Kind, size: int) -> np.ndarray:
    """`(size / 2,)` float64, the rotary frequencies of a head."""
    if kind.theta is None:
        return np.zeros(size // 2)
    plain = kind.theta ** (-np.arange(0, size, 2) / size)
    if kind.bands is None:
        return plain / kind.factor
    low, high, original = kind.bands
    kept = np.clip((original * plain / (2 * np.pi) - low) / (high - low), 0, 1)
    return plain * (kept + (1 - kept) / kind.factor)


def _views(config: Config, places: Places) -> tuple[Any, Any]:
    """`(cos, sin, visible)`, of all layers or stacked by kind; and the kind of each layer, or None."""
    # Half-split rotary embedding: entry i of a head is paired with entry i + size / 2.
    given = config.kinds or (Kind(config.rope_theta),)
    kinds = list(dict.fromkeys(given))
    views = []
    for kind in kinds:
        angles = np.arange(places.bound)[:, None] * frequencies(kind, config.size)
        tables = np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
        cos, sin = (jnp.asarray(table)[places.new] for table in tables)
        views.append((cos, sin, places.within(kind.window)))
    if len(kinds) == 1:
        return views[0], None
    stacked = jax.tree.map(lambda *tables: jnp.stack(tables), *views)
    return stacked, np.array([kinds.index(kind) for kind in given])


def _rotate(x, cos, sin):
    cos, sin = (table[..., None, None, :].astype(x.dtype) for table in (cos, sin))
    left, right = jnp.split(x, 2, axis=-1)
    return jnp.concatenate([left * cos - right * sin, right * cos + left * sin], axis=-1)
