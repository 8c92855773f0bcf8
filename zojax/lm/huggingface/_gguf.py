"""GGUF files of llama.cpp: settings and tensors under the names of Hugging Face, weights dequantised.

The architectures `llama` (Llama, Mistral, SmolLM2), `qwen2` and `qwen3` are known, in all types that the
package `gguf` dequantises: Q4_0, Q4_1, Q8_0, K-quants, F16, BF16 and others.
"""

import pathlib
import re
from typing import Any, NamedTuple

import jax
import numpy as np

from zojax.lm._extras import require
from zojax.lm._files import refusing, shown
from zojax.lm.huggingface._config_file import ConfigFile
from zojax.lm.models.quantized import Quantized

ARCHITECTURES = "llama", "qwen2", "qwen3"
_COUNTS = {
    "hidden_size": "embedding_length",
    "num_hidden_layers": "block_count",
    "num_attention_heads": "attention.head_count",
    "num_key_value_heads": "attention.head_count_kv",
    "intermediate_size": "feed_forward_length",
    "head_dim": "attention.key_length",
    "rope_theta": "rope.freq_base",
    "rms_norm_eps": "attention.layer_norm_rms_epsilon",
}
_OUTER = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
_OF_LAYER = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_CONTROL = 3  # the type of tokens such as <|im_end|>, which no text is cut into
_WORDS = r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_SPLITS = {  # how tokenizer.ggml.pre cuts a text into words
    "llama-bpe": _CONTRACTIONS + _WORDS % "{1,3}",
    "qwen2": _CONTRACTIONS + _WORDS % "",
}


class _Blocks(NamedTuple):
    """A type of blocks of 32 weights: its bytes, those of its float16 header, and its integers."""

    size: int
    header: int
    dtype: type[np.integer]
    zero: int = 0


_BLOCKS = {
    "Q4_0": _Blocks(18, 2, np.uint8, 8),
    "Q4_1": _Blocks(20, 4, np.uint8),
    "Q8_0": _Blocks(34, 2, np.int8),
}


class GGUF:
    """The tensors of a GGUF file by their names of Hugging Face, as `Tensors` of a folder."""

    def __init__(self, path: pathlib.Path):
        if not path.is_file():
            raise ValueError(f"{path} is no file; give a GGUF file or a Hugging Face folder.")
        self.folder, gguf = path, require("gguf")
        with refusing(f"{path} is not a GGUF file, or cut off"):
            self._reader = gguf.GGUFReader(path)
        self._dequantize = gguf.quants.dequantize
        self._known = {tensor.name: tensor for tensor in self._reader.tensors}
        self._used: set[str] = set()
        self._kind = self.field("general.architecture")
        if self._kind not in ARCHITECTURES:
            known = ", ".join(ARCHITECTURES)
            raise ValueError(
                f"{path} has the architecture {shown(self._kind)}; supported are {known}."
            )

    def field(self, name: str, default: Any = None) -> Any:
        """A value of the header."""
        found = self._reader.fields.get(name)
        with refusing(f"{self.folder} has a damaged {name}"):
            value = default if found is None else found.contents()
        # Floats are float32; the shortest decimal is what config.json has.
        return float(str(np.float32(value))) if isinstance(value, float) else value

    def settings(self) -> ConfigFile:
        """The header as the settings of a `config.json`."""
        raw: dict[str, Any] = {"model_type": self._kind}
        raw |= {ours: self.field(f"{self._kind}.{theirs}") for ours, theirs in _COUNTS.items()}
        raw |= {"vocab_size": len(self.field("tokenizer.ggml.tokens", []))}
        raw |= {"eos_token_id": self.field("tokenizer.ggml.eos_token_id")}
        raw |= {"tie_word_embeddings": self.find("lm_head.weight") is None}
        scaling = self.field(f"{self._kind}.rope.scaling.type", "none")
        if scaling != "none":
            factor = self.field(f"{self._kind}.rope.scaling.factor")
            raw |= {"rope_scaling": {"rope_type": scaling, "factor": factor}}
        return ConfigFile(self.folder, raw)

    def find(self, name: str) -> str | None:
        """The name in the file; None if it is missing."""
        module, ending = name.rsplit(".", 1)
        if match := re.fullmatch(r"model\.layers\.(\d+)\.(.+)", module):
            found = f"blk.{match[1]}.{_OF_LAYER.get(match[2])}.{ending}"
        else:
            found = f"{_OUTER.get(module)}.{ending}"
        return found if found in self._known else None

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor, which counts as used from now on."""
        self._used.add(self._name(name))
        return tuple(int(n) for n in reversed(self._known[self._name(name)].shape))

    def read(self, name: str) -> np.ndarray:
        """The tensor as a float32 array."""
        tensor = self._known[self._name(name)]
        with refusing(f"the tensor {tensor.name} of {self.folder} cannot be read"):
            array = self._dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        heads = self._paired_heads(name)
        return array if heads is None else unpermute(array, heads)

    def _paired_heads(self, name: str) -> int | None:
        """The heads of a tensor whose rows are in pairs for the rotation; None for other tensors."""
        heads = {"q_proj.weight": "num_attention_heads", "k_proj.weight": "num_key_value_heads"}
        which = heads.get(".".join(name.rsplit(".", 2)[1:]))
        if self._kind != "llama" or which is None:  # only this architecture has such pairs
            return None
        settings = self.settings()
        return settings.count(which, settings.count("num_attention_heads"))

    def quantized(self, name: str) -> Quantized | None:
        """The tensor with its integers and scales as in the file; None for a type without blocks of 32."""
        tensor = self._known[self._name(name)]
        layout = _BLOCKS.get(tensor.tensor_type.name)
        if layout is None:
            return None
        blocks = np.asarray(tensor.data).reshape(len(tensor.data), -1, layout.size)
        scales, *offsets = (
            np.ascontiguousarray(blocks[..., i : i + 2]).view("<f2")[..., 0]
            for i in range(0, layout.header, 2)
        )
        integers = np.ascontiguousarray(blocks[..., layout.header :]).view(layout.dtype)
        found = Quantized(integers, scales, offsets[0] if offsets else None, zero=layout.zero)
        if not all(np.isfinite(x).all() for x in (scales, *offsets)):
            raise ValueError(f"{tensor.name} of {self.folder} has scales that are not finite.")
        heads = self._paired_heads(name)
        return found if heads is None else jax.tree.map(lambda x: unpermute(x, heads), found)

    def unused(self) -> list[str]:
        """Sorted names of the tensors that `shape` was not asked for."""
        return sorted(self._known.keys() - self._used)

    def _name(self, name: str) -> str:
        known = self.find(name)
        if known is None:
            raise ValueError(f"{self.folder} has no tensor for {name}, which its architecture has.")
        return known

    def tokenizer(self) -> Any:
        """The tokenizer in the header; None for a kind that is not known."""
        kind, cut = self.field("tokenizer.ggml.model"), self.field("tokenizer.ggml.pre", "default")
        if kind != "gpt2" or cut not in ("default", "gpt-2", "smollm", *_SPLITS):
            return None
        tokenizers = require("tokenizers")
        tokens = self.field("tokenizer.ggml.tokens")
        pairs = [tuple(merge.split(" ")) for merge in self.field("tokenizer.ggml.merges")]
        vocabulary = {token: i for i, token in enumerate(tokens)}
        tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=vocabulary, merges=pairs))
        tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Sequence(_splitters(tokenizers, cut))
        tokenizer.decoder = tokenizers.decoders.ByteLevel()
        kinds = self.field("tokenizer.ggml.token_type")
        control = [t for t, kind in zip(tokens, kinds, strict=True) if kind == _CONTROL]
        tokenizer.add_special_tokens([tokenizers.AddedToken(t, normalized=False) for t in control])
        if self.field("tokenizer.ggml.add_bos_token", False):
            first = self.field("tokenizer.ggml.bos_token_id")
            template = tokenizers.processors.TemplateProcessing
            ends = [(tokens[first], first)]
            tokenizer.post_processor = template(single=f"{tokens[first]} $A", special_tokens=ends)
        return tokenizer


def unpermute(weight: np.ndarray, heads: int) -> np.ndarray:
    """Restores the half-split order of query and key rows; GGUF pairs neighbours for the rotation.

    Each head's rows of `weight` `(heads * size, ...)` are ordered 0, size / 2, 1, size / 2 + 1, ...
    """
    rows, *rest = weight.shape
    pairs = weight.reshape(heads, rows // heads // 2, 2, *rest)
    return pairs.swapaxes(1, 2).reshape(rows, *rest)


def _splitters(tokenizers: Any, cut: str) -> list:
    made = tokenizers.pre_tokenizers
    if cut == "smollm":
        return [made.Digits(individual_digits=True), made.ByteLevel(add_prefix_space=False)]
    if cut in _SPLITS:
        split = made.Split(tokenizers.Regex(_SPLITS[cut]), "isolated")
        return [split, made.ByteLevel(add_prefix_space=False, use_regex=False)]
    return [made.ByteLevel(add_prefix_space=False)]
