"""Models from a local Hugging Face folder: Llama-, Qwen2-, GPT-2- and OPT-shaped, without torch.

A folder has `config.json`, `*.safetensors` and `tokenizer.json`. Tensors are read one at a time
into the stacked arrays of `zojax.examples.models`, and these are handed to JAX one at a time: what is
held beyond the model itself is one stacked array.
"""

import json
import pathlib
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from zojax.examples.models import gpt, greedy, llama

__all__ = ["Model", "llama_names", "load", "prefix"]


class Model(NamedTuple):
    """A model and what belongs to it.

    Attributes:
      module: `zojax.examples.models.llama` or `zojax.examples.models.gpt`.
      config: of that module.
      params: dict of JAX arrays.
      tokenizer: a `tokenizers.Tokenizer`, or None where the folder has none.
      stop: the token that ends a text, or None.
    """

    module: Any
    config: Any
    params: dict
    tokenizer: Any
    stop: int | None

    def forward(self, params, tokens, *, positions=None, rows=None):
        """Next-token logits, see `llama.forward`."""
        return self.module.forward(self.config, params, tokens, positions=positions, rows=rows)

    def generate(self, params, tokens, lengths, new):
        """`(B, new)` tokens that follow, see `zojax.examples.models.greedy.generate`."""
        return greedy.generate(self.module, self.config, params, tokens, lengths, new)


def load(folder, dtype=np.float32):
    """Loads a model.

    Args:
      folder: the path of the folder.
      dtype: of the parameters, float32 or `jnp.bfloat16`.

    Returns:
      A `Model`.

    Raises:
      ValueError: if a file is missing, the model's type or a setting is not supported, or a tensor is
        missing or of another shape.
    """
    folder = pathlib.Path(folder).expanduser()
    raw = _config(folder)
    kind = raw.get("model_type")
    if kind not in _SHAPES:
        raise ValueError(
            f"config.json of {folder} has model_type {kind!r}; supported are {sorted(_SHAPES)}."
        )
    try:
        module, config, names, transposed = _SHAPES[kind](raw)
    except KeyError as error:
        raise ValueError(f"config.json of {folder} has no {error.args[0]!r}.") from error
    tensors = _Tensors(folder)
    expected = module.shapes(config)
    if module is llama and kind == "qwen2":
        kv_width = config.width // config.heads * config.kv_heads
        for name, width in (("query", config.width), ("key", kv_width), ("value", kv_width)):
            expected["layers"][f"{name}_bias"] = (config.layers, width)
    if not raw.get("tie_word_embeddings", kind in ("gpt2", "opt")):
        expected["head"] = expected["embed"]

    def read(name, shape, layer=None):
        template, part = names[name] if isinstance(names[name], tuple) else (names[name], None)
        array = tensors.read(template if layer is None else template.format(layer))
        if part is not None:  # query, key and value in one
            array = np.split(array, 3, axis=-1)[part]
        array = array.T if transposed and array.ndim == 2 and layer is not None else array
        if array.shape != shape:
            raise ValueError(
                f"{template} of {folder} has shape {array.shape}, expected {shape} for {config}."
            )
        return array

    def stack(name, shape):
        stacked = np.empty(shape, dtype)
        for i in range(shape[0]):
            stacked[i] = read(name, shape[1:], i)
        return jnp.asarray(stacked)

    layers = {name: stack(name, shape) for name, shape in expected.pop("layers").items()}
    params = {n: jnp.asarray(read(n, shape).astype(dtype)) for n, shape in expected.items()}
    stop = raw.get("eos_token_id")
    stop = stop[0] if isinstance(stop, list) else stop
    stop = stop if stop is not None and stop < config.vocabulary else None
    return Model(module, config, {**params, "layers": layers}, _tokenizer(folder), stop)


def prefix(model, params, tokens):
    """A prefix (see `llama.forward`) that begins as real activations: the keys and values of tokens.

    Args:
      model: a `Model`.
      params: its parameters.
      tokens: `(m,)` integers.

    Returns:
      `{"prefix_key", "prefix_value"}`, `(L, m, K)` each. A text gets the logits that it would have
      after these tokens.
    """
    run = jax.jit(partial(model.module.extend, model.config))
    _, (keys, values) = run(params, np.asarray(tokens)[None])
    return {"prefix_key": keys[:, 0], "prefix_value": values[:, 0]}


class _Tensors:
    """All tensors of a folder's safetensors files, by name."""

    def __init__(self, folder):
        from safetensors import SafetensorError, safe_open

        self._folder, self._file_of = folder, {}
        paths = sorted(folder.glob("*.safetensors"))
        if not paths:
            raise ValueError(f"{folder} has no *.safetensors file.")
        for path in paths:
            try:
                file = safe_open(path, framework="flax")  # numpy alone does not know bfloat16
            except SafetensorError as error:
                raise ValueError(
                    f"{path} is not a safetensors file, or cut off: {error}."
                ) from error
            self._file_of |= dict.fromkeys(file.keys(), file)

    def read(self, name):
        # Some files were saved from the bare model, without the prefix of its head.
        for known in (name, name.split(".", 1)[-1]):
            if known in self._file_of:
                return np.asarray(self._file_of[known].get_tensor(known))
        raise ValueError(f"{self._folder} has no tensor {name}.")


def _config(folder):
    path = _existing(folder, "config.json")
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}.") from error
    if not isinstance(raw, dict):
        raise ValueError(f"{path} must hold an object, got {raw!r}.")
    return raw


def _existing(folder, name):
    path = folder / name
    if not path.exists():
        raise ValueError(f"{folder} has no {name}; --weights takes a local Hugging Face folder.")
    return path


def _tokenizer(folder):
    path = folder / "tokenizer.json"
    if not path.exists():
        return None
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the package raises nothing narrower
        raise ValueError(f"{path} is not a tokenizer: {error}.") from error
    # Folders may keep how a text was last cut or filled up; here texts are whole.
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def _require(raw, **settings):
    """Raises ValueError for a setting that the models here do not have."""
    for name, supported in settings.items():
        if raw.get(name) is not None and raw[name] != supported:
            raise ValueError(f"config.json has {name}={raw[name]!r}; supported is {supported!r}.")


def _llama(raw):
    _require(raw, hidden_act="silu", rope_scaling=None, attention_bias=False, mlp_bias=False)
    _require(raw, use_sliding_window=False)
    heads, width = raw["num_attention_heads"], raw["hidden_size"]
    if not heads > 0:
        raise ValueError(f"config.json has num_attention_heads={heads!r}; it must be at least 1.")
    _require(raw, head_dim=width // heads)
    rope = raw.get("rope_parameters") or {}  # where newer versions keep it
    if rope.get("rope_type", "default") != "default":
        raise ValueError(f"config.json has rope_parameters {rope}; supported is 'default'.")
    config = llama.Config(
        vocabulary=raw["vocab_size"],
        width=width,
        layers=raw["num_hidden_layers"],
        heads=heads,
        kv_heads=raw.get("num_key_value_heads") or heads,
        hidden=raw["intermediate_size"],
        rope_theta=raw.get("rope_theta") or rope.get("rope_theta", 1e4),
        epsilon=raw.get("rms_norm_eps", 1e-6),
    )
    return llama, config, llama_names(), True


def llama_names():
    """The name of each parameter of `zojax.examples.models.llama` in a safetensors file."""
    layer = "model.layers.{}."
    names = {
        "embed": "model.embed_tokens.weight",
        "norm": "model.norm.weight",
        "head": "lm_head.weight",
        "attention_norm": layer + "input_layernorm.weight",
        "mlp_norm": layer + "post_attention_layernorm.weight",
        "output": layer + "self_attn.o_proj.weight",
    }
    for name in ("query", "key", "value"):
        names[name] = layer + f"self_attn.{name[0]}_proj.weight"
        names[f"{name}_bias"] = layer + f"self_attn.{name[0]}_proj.bias"
    names |= {name: layer + f"mlp.{name}_proj.weight" for name in ("gate", "up", "down")}
    return names


def _gpt2(raw):
    _require(raw, scale_attn_by_inverse_layer_idx=False, scale_attn_weights=True)
    width = raw["n_embd"]
    config = gpt.Config(
        vocabulary=raw["vocab_size"],
        width=width,
        layers=raw["n_layer"],
        heads=raw["n_head"],
        hidden=raw.get("n_inner") or 4 * width,
        positions=raw["n_positions"],
        activation=_activation(raw.get("activation_function", "gelu_new")),
        epsilon=raw.get("layer_norm_epsilon", 1e-5),
    )
    layer = "transformer.h.{}."
    names = {
        "embed": "transformer.wte.weight",
        "positions": "transformer.wpe.weight",
        "norm": "transformer.ln_f.weight",
        "norm_bias": "transformer.ln_f.bias",
        "head": "lm_head.weight",
    }
    parts = {"attention_norm": "ln_1", "mlp_norm": "ln_2"}
    parts |= {"output": "attn.c_proj", "up": "mlp.c_fc", "down": "mlp.c_proj"}
    for name, theirs in parts.items():
        names |= {name: f"{layer}{theirs}.weight", f"{name}_bias": f"{layer}{theirs}.bias"}
    for i, name in enumerate(("query", "key", "value")):
        names[name] = (layer + "attn.c_attn.weight", i)
        names[f"{name}_bias"] = (layer + "attn.c_attn.bias", i)
    return gpt, config, names, False  # its matrices are stored (in, out)


def _opt(raw):
    width = raw["hidden_size"]
    _require(raw, do_layer_norm_before=True, word_embed_proj_dim=width, enable_bias=True)
    _require(raw, layer_norm_elementwise_affine=True, _remove_final_layer_norm=False)
    config = gpt.Config(
        vocabulary=raw["vocab_size"],
        width=width,
        layers=raw["num_hidden_layers"],
        heads=raw["num_attention_heads"],
        hidden=raw["ffn_dim"],
        positions=raw["max_position_embeddings"] + 2,
        activation=_activation(raw.get("activation_function", "relu")),
        first_position=2,
    )
    start = "model.decoder."
    names = {
        "embed": start + "embed_tokens.weight",
        "positions": start + "embed_positions.weight",
        "norm": start + "final_layer_norm.weight",
        "norm_bias": start + "final_layer_norm.bias",
        "head": "lm_head.weight",
    }
    parts = {"attention_norm": "self_attn_layer_norm", "mlp_norm": "final_layer_norm"}
    parts |= {"output": "self_attn.out_proj", "up": "fc1", "down": "fc2"}
    parts |= {name: f"self_attn.{name[0]}_proj" for name in ("query", "key", "value")}
    for name, theirs in parts.items():
        path = start + "layers.{}." + theirs
        names |= {name: f"{path}.weight", f"{name}_bias": f"{path}.bias"}
    return gpt, config, names, True


def _activation(name):
    if name not in gpt.ACTIVATIONS:
        raise ValueError(
            f"config.json has the activation {name!r}; supported are {sorted(gpt.ACTIVATIONS)}."
        )
    return name


_SHAPES = {"llama": _llama, "qwen2": _llama, "gpt2": _gpt2, "opt": _opt}
