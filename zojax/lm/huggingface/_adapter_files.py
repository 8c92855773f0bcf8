"""Adapters as PEFT writes them: `adapter_config.json` and `adapter_model.safetensors`."""

import json
import pathlib

import jax.numpy as jnp
import numpy as np

from zojax.lm._extras import require
from zojax.lm._files import FilePath, refusing, shown
from zojax.lm._model import Model
from zojax.lm.huggingface._architectures import read_config
from zojax.lm.huggingface._config_file import ConfigFile
from zojax.lm.huggingface._stored import Architecture, Stored

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "prefix_key", "prefix_value"
_BASE = "base_model.model."

Tensors = dict[str, np.ndarray]


def save_adapter(folder: FilePath, params: dict, source: FilePath) -> None:
    """Saves LoRA adapters or a prefix in the layout of PEFT; `load_adapter` and PEFT read it.

    Args:
      folder: its path; made if missing.
      params: `{"layers": {...}}`, with pairs such as `query_a` and `query_b`, see `lora`, or with
        `prefix_key` and `prefix_value`, see `prefix`.
      source: the folder of the model that they belong to.

    Raises:
      ValueError: for other parameters.
      ModuleNotFoundError: without the extra `finetune`.
    """
    source = pathlib.Path(source).expanduser()
    architecture, layers = read_config(source)[1], params["layers"]
    arrays = {name: np.asarray(array) for name, array in layers.items()}
    if set(params) == {"layers"} and set(arrays) == set(PREFIX):
        settings, tensors = _prefix_file(architecture, arrays)
    elif set(params) == {"layers"} and arrays and _targets(arrays):
        settings, tensors = _lora_file(architecture, arrays)
    else:
        found = sorted({*params, *arrays} - {"layers"})
        raise ValueError(
            f"params must be LoRA adapters or a prefix, got {shown(found)}; `lm.save` writes others."
        )
    settings |= {"task_type": "CAUSAL_LM", "base_model_name_or_path": str(source)}
    path = pathlib.Path(folder).expanduser()
    path.mkdir(parents=True, exist_ok=True)
    (path / CONFIG).write_text(json.dumps(settings | {"inference_mode": True}, indent=1))
    require("safetensors.numpy").save_file(tensors, path / WEIGHTS, {"format": "pt"})


def load_adapter(folder: FilePath, model: Model, source: FilePath) -> Model:
    """Puts adapters of a PEFT folder into a model.

    Args:
      folder: with `adapter_config.json` and `adapter_model.safetensors`, of LoRA or of a prefix.
      model: loaded from `source`.
      source: the folder of the model.

    Raises:
      ValueError: for another kind of adapter, and for tensors that do not fit the model.
      ModuleNotFoundError: without the extra `finetune`.
    """
    folder = pathlib.Path(folder).expanduser()
    architecture = read_config(pathlib.Path(source).expanduser())[1]
    settings = ConfigFile(folder / CONFIG)
    read = _KINDS[settings.option("peft_type", _KINDS)]
    with refusing(f"{folder / WEIGHTS} is not a safetensors file, or cut off"):
        file = require("safetensors").safe_open(folder / WEIGHTS, framework="flax")
        tensors = {name: np.asarray(file.get_tensor(name)) for name in file.keys()}
    layers, dtype = read(settings, architecture, tensors), model.params["embed"].dtype
    made = {name: jnp.asarray(array, dtype) for name, array in layers.items()}
    return model._replace(params={**model.params, "layers": {**model.params["layers"], **made}})


def _targets(arrays: dict) -> list[str]:
    """The matrices with adapters; none if there is anything else."""
    names = sorted({name[:-2] for name in arrays})
    pairs = {f"{name}_{part}" for name in names for part in "ab"}
    return names if pairs == set(arrays) else []


def _lora_file(architecture: Architecture, arrays: dict) -> tuple[dict, dict]:
    """Settings and tensors; alpha is the rank, so that PEFT scales by one."""
    targets = _modules(architecture, _targets(arrays))
    rank = max(sum(arrays[f"{n}_a"].shape[2] for n in names) for names in targets.values())
    tensors = {}
    for module, names in targets.items():
        for i in range(architecture.config.layers):
            pairs = {n: (arrays[f"{n}_a"][i], arrays[f"{n}_b"][i]) for n in names}
            a, b = _side_by_side(architecture, pairs)
            lacking = rank - a.shape[1]
            path = _BASE + module.format(i)
            a, b = np.pad(a, ((0, 0), (0, lacking))), np.pad(b, ((0, lacking), (0, 0)))
            tensors[f"{path}.lora_A.weight"] = np.ascontiguousarray(a.T)
            tensors[f"{path}.lora_B.weight"] = np.ascontiguousarray(b.T)
    settings = {"peft_type": "LORA", "r": rank, "lora_alpha": rank}
    settings |= {"lora_dropout": 0.0, "bias": "none"}
    all_names = [n for names in targets.values() for n in names]
    is_conv = not any(architecture.places[n].transposed for n in all_names)
    named = sorted(module.split("{}.")[1] for module in targets)
    return settings | {"target_modules": named, "fan_in_fan_out": is_conv}, tensors


def _modules(architecture: Architecture, names: list[str]) -> dict[str, list[str]]:
    """The matrices of each module, by its path with `{}` for the layer; a fused module has several."""
    found: dict[str, list[str]] = {}
    for name in names:
        if name not in architecture.places:
            raise ValueError(f"the model has no matrix {name!r} for an adapter.")
        path = architecture.places[name].name.removesuffix(".weight")
        found.setdefault(path, []).append(name)
    return found


def _side_by_side(architecture: Architecture, pairs: dict) -> tuple[np.ndarray, np.ndarray]:
    """The factors `(in, r)` and `(r, out)` of a module, whose parts have factors of their own."""
    (name, (first, second)), *_ = pairs.items()
    columns = architecture.places[name].columns
    if columns is None:
        return first, second
    whole = np.concatenate([a for a, _ in pairs.values()], axis=1)
    wide, row = np.zeros((whole.shape[1], columns[2]), second.dtype), 0
    for name, (_, b) in pairs.items():
        begin, end, _ = architecture.places[name].columns or columns
        wide[row : row + len(b), begin:end] = b
        row += len(b)
    return whole, wide


def _lora(settings: ConfigFile, architecture: Architecture, tensors: Tensors) -> dict:
    """Layers' parameters from the tensors of LoRA, with the scale in the second factor."""
    settings.require(bias="none", use_dora=False, modules_to_save=None)
    settings.require(rank_pattern={}, alpha_pattern={})
    rank, alpha = settings.count("r"), settings.between("lora_alpha", 1e-6, 1e6)
    scale = alpha / (rank**0.5 if settings.flag("use_rslora", False) else rank)
    layers: dict[str, np.ndarray] = {}
    used: set[str] = set()
    for name, stored in architecture.places.items():
        if not stored.name.endswith(".weight") or "{}" not in stored.name:
            continue
        places = [stored.of_layer(i) for i in range(architecture.config.layers)]
        pairs = [_pair(place, tensors) for place in places]
        if any(pairs):
            used |= {path for place in places for path in _paths(place)}
            a, b = _stacked(settings, architecture, name, pairs, rank)
            if b.any() or stored.columns is None:  # a fused tensor has parts without an adapter
                layers |= {f"{name}_a": a, f"{name}_b": b if scale == 1 else b * scale}
    _check_used(settings, tensors, used)
    return layers


def _paths(stored: Stored) -> list[str]:
    base = _BASE + stored.name.removesuffix(".weight")
    return [f"{base}.lora_{part}.weight" for part in "AB"]


def _pair(stored: Stored, tensors: Tensors) -> tuple[np.ndarray, np.ndarray] | None:
    names = _paths(stored)
    if not all(name in tensors and tensors[name].ndim == 2 for name in names):
        return None
    a, b = (tensors[name].T for name in names)
    return a, b if stored.columns is None else b[:, slice(*stored.columns[:2])]


def _stacked(
    settings: ConfigFile, architecture: Architecture, name: str, pairs: list, rank: int
) -> list:
    """The factors of all layers; zero for a layer without an adapter."""
    _, width, out = architecture.module.shapes(architecture.config)["layers"][name]
    expected = [(width, rank), (rank, out)]
    for pair in filter(None, pairs):
        found = [array.shape for array in pair]
        if found != expected:
            what = f"has factors of shapes {found} for {name}, expected {expected}"
            raise _misfit(settings, what)
    dtype = next(a.dtype for a, _ in filter(None, pairs))
    zeros = [np.zeros(shape, dtype) for shape in expected]
    return [np.stack(factors) for factors in zip(*(pair or zeros for pair in pairs), strict=True)]


def _prefix_file(architecture: Architecture, arrays: dict) -> tuple[dict, dict]:
    config = architecture.config
    layers, length, width = arrays["prefix_key"].shape
    pairs = np.stack([arrays[name] for name in PREFIX], axis=1)  # (L, 2, m, K)
    flat = np.moveaxis(pairs, 2, 0).reshape(length, 2 * layers * width)
    settings = {
        "peft_type": "PREFIX_TUNING",
        "num_virtual_tokens": length,
        "num_layers": layers,
        "num_attention_heads": getattr(config, "kv_heads", config.heads),
        "token_dim": width,
        "encoder_hidden_size": config.width,
        "num_transformer_submodules": 1,
        "prefix_projection": False,
    }
    return settings, {"prompt_embeddings": np.ascontiguousarray(flat)}


def _prefix(settings: ConfigFile, architecture: Architecture, tensors: Tensors) -> dict:
    settings.require(prefix_projection=False)
    config = architecture.config
    layers, width = config.layers, architecture.module.shapes(config)["layers"]["key"][2]
    _check_used(settings, tensors, {"prompt_embeddings"})
    flat, columns = tensors.get("prompt_embeddings", np.zeros(0)), 2 * layers * width
    if flat.ndim != 2 or flat.shape[1] != columns:
        raise _misfit(settings, f"has a prefix of shape {flat.shape}, expected (m, {columns})")
    pairs = np.moveaxis(flat.reshape(len(flat), layers, 2, width), 0, 2)
    return {name: np.ascontiguousarray(pairs[:, i]) for i, name in enumerate(PREFIX)}


def _check_used(settings: ConfigFile, tensors: Tensors, used: set[str]) -> None:
    if unused := sorted(tensors.keys() - used):
        found = f"has {len(unused)} tensors without a place in the model"
        raise _misfit(settings, f"{found}, {shown(unused[0])} among them")


def _misfit(settings: ConfigFile, found: str) -> ValueError:
    path = settings.path.with_name(WEIGHTS)
    return ValueError(f"{path} {found}; the adapter belongs to another model.")


_KINDS = {"LORA": _lora, "PREFIX_TUNING": _prefix}
