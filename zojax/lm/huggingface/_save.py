"""Saves a Llama- or Qwen2-shaped model as a Hugging Face folder."""

import json
import pathlib
from os import PathLike

import jax
import numpy as np

from zojax.lm._extras import require
from zojax.lm._model import Model
from zojax.lm.huggingface._architectures import llama_names
from zojax.lm.models import llama


def save(folder: str | PathLike, model: Model) -> None:
    """Saves a Llama- or Qwen2-shaped model; `load` reads the same bits.

    Args:
      folder: its path; made if missing.
      model: a `Model` of `zojax.lm.llama`. Its parameters are float32, float16 or bfloat16. `head` is
        the readout if that is not the embedding. Qwen2 has `query_bias`, `key_bias` and `value_bias`.

    Raises:
      ValueError: for another architecture, and for parameters of another name, dtype or shape.
      ModuleNotFoundError: without the extra `finetune`.

    >>> import jax, tempfile
    >>> from zojax import lm
    >>> config = lm.llama.Config(vocabulary=16, width=8, layers=1, heads=2, kv_heads=1, hidden=8)
    >>> model = lm.Model(lm.llama, config, lm.llama.init(jax.random.key(0), config))
    >>> folder = tempfile.mkdtemp()
    >>> lm.save(folder, model)
    >>> found = lm.load(folder)
    >>> bool((found.params["embed"] == model.params["embed"]).all())
    True
    """
    if model.module is not llama:
        found = model.module.__name__
        raise ValueError(f"save writes models of zojax.lm.llama, got one of {found}.")
    is_qwen2 = "query_bias" in model.params["layers"]
    _check(model.config, model.params, is_qwen2)
    save_file = require("safetensors.numpy").save_file
    path = pathlib.Path(folder).expanduser()
    path.mkdir(parents=True, exist_ok=True)
    save_file(_tensors(model.params), path / "model.safetensors")
    if model.tokenizer is not None:
        model.tokenizer.save(str(path / "tokenizer.json"))
    (path / "config.json").write_text(json.dumps(_settings(model, is_qwen2), indent=1))


def _tensors(params: dict) -> dict[str, np.ndarray]:
    """Arrays by their names in the file."""
    names = llama_names()
    tensors = {names[n].name: np.asarray(a) for n, a in params.items() if n != "layers"}
    for name, stacked in params["layers"].items():
        for i, array in enumerate(np.asarray(stacked)):
            stored = names[name].of_layer(i)
            tensors[stored.name] = np.ascontiguousarray(array.T if stored.transposed else array)
    return tensors


def _settings(model: Model, is_qwen2: bool) -> dict:
    """The contents of `config.json`."""
    config = model.config
    return {
        "model_type": "qwen2" if is_qwen2 else "llama",
        "vocab_size": config.vocabulary,
        "hidden_size": config.width,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "intermediate_size": config.hidden,
        "rope_theta": config.rope_theta,
        "rms_norm_eps": config.epsilon,
        "tie_word_embeddings": "head" not in model.params,
        "eos_token_id": model.stop,
    }


def _check(config: llama.Config, params: dict, is_qwen2: bool) -> None:
    """Raises ValueError for parameters that the format does not have."""
    expected = llama.shapes(config)
    if is_qwen2:
        expected["layers"] |= llama.bias_shapes(config)
    if "head" in params:
        expected["head"] = expected["embed"]
    found = jax.tree.map(np.shape, params)
    if found != expected:
        for part, known in ((found, expected), (found["layers"], expected["layers"])):
            for name in sorted(part.keys() ^ known.keys()):
                raise ValueError(
                    f"params has a wrong or missing {name!r}: the format has {sorted(known)}. "
                    "Merge adapters into the matrices, and drop shifts and prefixes."
                )
        raise ValueError(f"params has the shapes {found}, expected {expected} for {config}.")
    kinds = {str(leaf.dtype) for leaf in jax.tree.leaves(params)}
    if not kinds <= {"float32", "float16", "bfloat16"}:
        raise ValueError(
            f"params must be of float32, float16 or bfloat16, got {sorted(kinds)}; cast them."
        )
