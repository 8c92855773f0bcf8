"""Loads a model from a local Hugging Face folder, without torch.

Tensors are read one at a time into stacked arrays, and each stacked array goes to JAX before the next.
So one stacked array is held beyond the model itself.
"""

import pathlib
import re
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from zojax.lm._extras import require
from zojax.lm._files import FilePath, refusing, shown
from zojax.lm._model import Model
from zojax.lm.huggingface._architectures import architecture_of, read_config
from zojax.lm.huggingface._config_file import ConfigFile
from zojax.lm.huggingface._gguf import GGUF
from zojax.lm.huggingface._stored import Architecture, Stored
from zojax.lm.huggingface._tensors import Tensors
from zojax.lm.models import llama
from zojax.lm.models.quantized import Quantized

Shape = tuple[int, ...]
Shapes = dict[str, Shape]


def load(folder: FilePath, dtype: DTypeLike = np.float32, quantized: bool = False) -> Model:
    """Loads a model of a Hugging Face folder or a GGUF file.

    - Folders: Llama, Mistral, Qwen2, Qwen3, Phi-3, SmolLM2, SmolLM3, Gemma 2, Gemma 3 (text), GPT-2, OPT,
      BERT and RoBERTa.
    - GGUF: Llama, Mistral, SmolLM2, Qwen2 and Qwen3, dequantised. A `tokenizer.json` beside the file
      replaces its tokenizer.

    All names, shapes and dtypes are checked before the first tensor is read.

    Args:
      folder: its path, or that of a `.gguf` file.
      dtype: of the parameters, float32 or bfloat16.
      quantized: keeps the matrices of a GGUF file of the types Q4_0, Q4_1 and Q8_0 as `Quantized`, in 5 or
        9 bits a weight, whose arrays have this dtype. Matrices of other types are dequantised.

    Raises:
      ValueError: for a file that is missing or damaged; a setting that is missing, of another type or
        not supported; a tensor that is missing, unused, in two files, of another shape, of integers, or
        not finite in `dtype`; `quantized` for a folder.
      ModuleNotFoundError: without the extra `finetune`.
    """
    folder = pathlib.Path(folder).expanduser()
    if folder.suffix == ".gguf":
        return _load_gguf(folder, dtype, quantized)
    if quantized:
        raise ValueError(f"quantized=True is for GGUF files, got {folder}; leave it out.")
    settings, architecture = read_config(folder)
    tokenizer = _tokenizer(folder)
    return _assembled(settings, architecture, Tensors(folder), tokenizer, dtype)


def _load_gguf(path: pathlib.Path, dtype: DTypeLike, quantized: bool) -> Model:
    file = GGUF(path)
    settings = file.settings()
    with refusing(f"{path} has a damaged tokenizer"):
        tokenizer = _tokenizer(path.parent) or file.tokenizer()
    blocks = partial(_blocks, file, dtype) if quantized else None
    return _assembled(settings, architecture_of(settings), file, tokenizer, dtype, blocks)


def _assembled(
    settings: ConfigFile,
    architecture: Architecture,
    tensors: Tensors | GGUF,
    tokenizer: Any,
    dtype: DTypeLike,
    blocks: Callable[[list[Stored]], Quantized | None] | None = None,
) -> Model:
    """The model; `blocks` gives the matrices of some places as they are stored, or None."""
    folder = tensors.folder
    module, config, places, *_ = architecture
    is_tied = settings.flag("tie_word_embeddings", architecture.is_tied)
    stop = _stop(settings, config)
    has_head = not is_tied or tensors.find(places["head"].name) is not None
    outer = architecture.shapes(has_head)
    layers = outer.pop("layers")
    _check_shapes(tensors, places, outer, layers, config)
    unused = [name for name in tensors.unused() if not _is_buffer(name, tensors, config)]
    if unused:
        raise ValueError(
            f"{folder} has {len(unused)} tensors that {config} does not use, {shown(unused[0])} among "
            "them. The config.json and the files must be of one model."
        )
    kept = {} if blocks is None else {name: blocks([places[name]]) for name in outer}
    kept = {name: found[0] for name, found in kept.items() if found is not None}
    arrays = {name: _read(tensors, places[name], dtype) for name in outer if name not in kept}
    if is_tied and "head" in arrays and not np.array_equal(arrays["embed"], arrays.pop("head")):
        raise ValueError(
            f"{folder} has a head that differs from its embedding, but its config.json has "
            "tie_word_embeddings=True; set it to false."
        )
    params = {name: jnp.asarray(array) for name, array in arrays.items()} | kept
    stacks: dict[str, Any] = {}
    for name, shape in layers.items():
        of_layers = [places[name].of_layer(i) for i in range(shape[0])]
        found = None if blocks is None else blocks(of_layers)
        if found is not None:
            stacks[name] = found
            continue
        stacked = np.empty(shape, dtype)
        for i in range(shape[0]):
            stacked[i] = _read(tensors, of_layers[i], dtype)
        stacks[name] = jnp.asarray(stacked)
    return Model(module, config, {**params, "layers": stacks}, tokenizer, stop)


def _blocks(file: GGUF, dtype: DTypeLike, places: list[Stored]) -> Quantized | None:
    """The stacked matrices of some places, if all are stored in blocks of one type."""
    found = [file.quantized(stored.name) for stored in places]
    if len({str(jax.tree.map(lambda x: x.dtype.name, x)) for x in found}) > 1 or found[0] is None:
        return None
    stacked = jax.tree.map(lambda *rows: jnp.asarray(np.stack(rows)), *found)
    return stacked.replace(transposed=places[0].transposed, dtype=dtype)


def _check_shapes(
    tensors: Tensors | GGUF, places: dict[str, Stored], outer: Shapes, layers: Shapes, config: Any
) -> None:
    """Raises ValueError for a tensor that is missing, of integers, or of another shape."""

    def check(stored: Stored, shape: Shape) -> None:
        found = stored.shape(tensors)
        if found != shape:
            raise ValueError(
                f"{stored.name} of {tensors.folder} has shape {found}, expected {shape} for {config}."
            )

    for name, shape in outer.items():
        check(places[name], shape)
    for i in range(config.layers):
        for name, shape in layers.items():
            check(places[name].of_layer(i), shape[1:])


def _read(tensors: Tensors | GGUF, stored: Stored, dtype: DTypeLike) -> np.ndarray:
    with np.errstate(over="ignore"):
        array = stored.read(tensors).astype(dtype)
    wrong = array.size - np.count_nonzero(np.isfinite(array))
    if wrong:
        raise ValueError(
            f"{stored.name} of {tensors.folder} has {wrong} entries that are not finite in "
            f"{np.dtype(dtype)}. Copy the model again, or load it with another dtype."
        )
    return array


# Constants that older versions of transformers saved with the weights.
_BUFFER = re.compile(
    r"(.*\.)?(attn\.bias|attn\.masked_bias|rotary_emb\.inv_freq|embeddings\.position_ids)"
)


def _is_buffer(name: str, tensors: Tensors | GGUF, config: Any) -> bool:
    """True for a constant with the value that this model computes."""
    if not _BUFFER.fullmatch(name):
        return False
    array = np.asarray(tensors.read(name), np.float64)
    if name.endswith("inv_freq"):
        if not isinstance(config, llama.Config):
            return False
        kind = next((k for k in config.kinds if k.theta), llama.Kind(config.rope_theta))
        known = llama.frequencies(kind, config.size)
        return array.shape == known.shape and np.allclose(array, known, rtol=0.01)
    if name.endswith("position_ids"):
        return np.array_equal(array.ravel(), np.arange(array.size))
    if name.endswith("masked_bias"):
        return array.size == 1 and bool(array.max() <= -1e4)
    return array.ndim == 4 and np.array_equal(array, np.tri(array.shape[-1])[None, None])


def _stop(settings: ConfigFile, config: Any) -> int | None:
    """The first token that ends a text; None if the vocabulary has none."""
    stop = settings.get("eos_token_id")
    first = stop[0] if isinstance(stop, list) and stop else stop
    if first is None:
        return None
    if isinstance(first, bool) or not isinstance(first, int) or first < 0:
        raise settings.error("eos_token_id", "it must be a token, or a list of tokens")
    return first if first < config.vocabulary else None


def _tokenizer(folder: pathlib.Path) -> Any:
    path = folder / "tokenizer.json"
    if not path.exists():
        return None
    tokenizers = require("tokenizers")
    with refusing(f"{path} is not a tokenizer"):
        tokenizer = tokenizers.Tokenizer.from_file(str(path))
        # The file may keep an earlier padding or truncation; here texts are whole.
        tokenizer.no_padding()
        tokenizer.no_truncation()
    return tokenizer
