"""Saves a model as a Hugging Face folder."""

import json
import pathlib
import shutil
from typing import Any

import jax
import numpy as np

from zojax.lm._extras import require
from zojax.lm._files import FilePath, read_json
from zojax.lm._model import Model
from zojax.lm.huggingface._architectures import read_config
from zojax.lm.huggingface._llama_like import FAMILIES, llama_names
from zojax.lm.huggingface._stored import Architecture
from zojax.lm.huggingface._tensors import INDEX
from zojax.lm.models import llama

_COPIED = (".json", ".jinja", ".model", ".txt")  # endings of tokenizer and generation files


def save(folder: FilePath, model: Model, source: FilePath | None = None) -> None:
    """Saves a model in the layout of Hugging Face; `load` reads the same bits, and transformers too.

    Args:
      folder: its path; made if missing.
      model: a `Model`. Its parameters are float32, float16 or bfloat16, with adapters merged, see `merge`.
        `head` is the readout if that is not the embedding.
      source: the folder that the model was loaded from. Its config.json, tokenizer and generation files are
        copied. None writes a new config.json, for the plain shapes of Llama, Qwen2 and Qwen3.

    Raises:
      ValueError: for another architecture than that of `source`, and for parameters of another name, dtype
        or shape.
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
    path = pathlib.Path(folder).expanduser()
    if source is None:
        settings, architecture = _described(model)
    else:
        source = pathlib.Path(source).expanduser()
        settings, architecture = read_json(source / "config.json"), read_config(source)[1]
        if architecture.config != model.config:
            raise ValueError(
                f"{source} has {architecture.config}, but the model has {model.config}; source must be the "
                "folder that the model was loaded from."
            )
    _check(architecture, model.params)
    settings["tie_word_embeddings"] = "head" not in model.params
    settings["dtype"] = str(model.params["embed"].dtype)  # else transformers would round to another
    settings.pop("torch_dtype", None)
    save_file = require("safetensors.numpy").save_file
    path.mkdir(parents=True, exist_ok=True)
    if source is not None:
        _copy(source, path)
    elif model.tokenizer is not None:
        model.tokenizer.save(str(path / "tokenizer.json"))
    (path / "config.json").write_text(json.dumps(settings, indent=1))
    tensors = _tensors(architecture, model.params)
    save_file(tensors, path / "model.safetensors", {"format": "pt"})  # transformers asks for it


def _copy(source: pathlib.Path, folder: pathlib.Path) -> None:
    """Copies the small files beside the weights."""
    if source.resolve() == folder.resolve():
        raise ValueError(f"{folder} is the folder of the original model; save to another one.")
    for file in sorted(source.iterdir()):
        if file.suffix in _COPIED and file.name != INDEX and file.is_file():
            shutil.copyfile(file, folder / file.name)


def _tensors(architecture: Architecture, params: dict) -> dict[str, np.ndarray]:
    """Arrays by their names in the file; the parts of a fused tensor are put side by side."""
    found: dict[str, dict[int, np.ndarray]] = {}
    transposed = {stored.name: stored.transposed for stored in architecture.places.values()}

    def add(name: str, array: Any, layer: int | None) -> None:
        stored = architecture.places[name]
        begin = 0 if stored.columns is None else stored.columns[0]
        placed = stored if layer is None else stored.of_layer(layer)
        transposed[placed.name] = stored.transposed
        found.setdefault(placed.name, {})[begin] = array

    for name, array in params.items():
        if name != "layers":
            add(name, np.asarray(array), None)
    for name, stacked in params["layers"].items():
        for i, array in enumerate(np.asarray(stacked)):
            add(name, array, i)
    tensors = {}
    for name, parts in found.items():
        whole = np.concatenate([parts[begin] for begin in sorted(parts)], axis=-1)
        tensors[name] = np.ascontiguousarray(whole.T if transposed[name] else whole)
    return tensors


def _described(model: Model) -> tuple[dict, Architecture]:
    """The contents of a new `config.json`, and its architecture."""
    if model.module is not llama:
        found = model.module.__name__
        raise ValueError(
            f"without source, save writes models of zojax.lm.llama, got one of {found}; "
            "give the folder that the model was loaded from."
        )
    config, layers = model.config, model.params["layers"]
    kinds = {"query_bias": "qwen2", "query_norm": "qwen3"}
    kind = next((kind for name, kind in kinds.items() if name in layers), "llama")
    plain = llama.Config(*config[:8])._replace(head_size=config.head_size)
    if config != plain:
        raise ValueError(
            f"without source, save writes plain models, got {config}; "
            "give the folder that it was loaded from."
        )
    family = FAMILIES[kind]
    places = llama_names(family, config)
    settings = {
        "model_type": kind,
        "architectures": [f"{kind.capitalize()}ForCausalLM"],
        "vocab_size": config.vocabulary,
        "hidden_size": config.width,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.size,
        "intermediate_size": config.hidden,
        "rope_theta": config.rope_theta,
        "rms_norm_eps": config.epsilon,
        "eos_token_id": model.stop,
    }
    return settings, Architecture(llama, config, places, family.optional)


def _check(architecture: Architecture, params: dict) -> None:
    """Raises ValueError for parameters that the format does not have."""
    expected = architecture.shapes("head" in params)
    found = jax.tree.map(np.shape, params)
    if found != expected:
        for part, known in ((found, expected), (found["layers"], expected["layers"])):
            for name in sorted(part.keys() ^ known.keys()):
                raise ValueError(
                    f"params has a wrong or missing {name!r}: the format has {sorted(known)}. "
                    "`lm.merge` puts LoRA adapters into the matrices; `lm.save_adapter` writes a prefix."
                )
        config = architecture.config
        raise ValueError(f"params has the shapes {found}, expected {expected} for {config}.")
    kinds = {str(leaf.dtype) for leaf in jax.tree.leaves(params)}
    if not kinds <= {"float32", "float16", "bfloat16"}:
        raise ValueError(
            f"params must be of float32, float16 or bfloat16, got {sorted(kinds)}; cast them."
        )
