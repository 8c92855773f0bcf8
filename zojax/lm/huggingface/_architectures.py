"""Architectures of `config.json`: the model's config, and the name of each stored parameter."""

from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from zojax.lm._files import shown
from zojax.lm.huggingface._config_file import ConfigFile, is_between
from zojax.lm.huggingface._tensors import Tensors
from zojax.lm.models import gpt, llama

EPSILONS = 1e-30, 1.0  # positive in float32
THETAS = 1.0, 1e30

Architecture = tuple[ModuleType, Any, dict[str, "Stored"]]  # module, config, places


class Stored(NamedTuple):
    """The place of a parameter in the files."""

    name: str  # of the tensor, with `{}` for the layer
    part: int | None = None  # 0, 1 or 2 for query, key or value of one fused tensor, else None
    transposed: bool = False  # True for matrices stored as (out, in)

    def of_layer(self, i: int) -> "Stored":
        """The place in layer i."""
        return self._replace(name=self.name.format(i))

    def shape(self, tensors: Tensors) -> tuple[int, ...]:
        """The parameter's shape in a `Tensors`."""
        shape = tensors.shape(self.name)
        if self.part is not None and shape and shape[-1] % 3 == 0:
            shape = (*shape[:-1], shape[-1] // 3)
        return shape[::-1] if self.transposed else shape

    def read(self, tensors: Tensors) -> np.ndarray:
        """The parameter as a NumPy array."""
        array = tensors.read(self.name)
        array = array if self.part is None else np.split(array, 3, axis=-1)[self.part]
        return array.T if self.transposed else array


def llama_names() -> dict[str, Stored]:
    """The `Stored` of each parameter of `zojax.lm.llama`."""
    layer = "model.layers.{}."
    names = {
        "embed": Stored("model.embed_tokens.weight"),
        "norm": Stored("model.norm.weight"),
        "head": Stored("lm_head.weight"),
        "attention_norm": Stored(layer + "input_layernorm.weight"),
        "mlp_norm": Stored(layer + "post_attention_layernorm.weight"),
        "output": Stored(layer + "self_attn.o_proj.weight", transposed=True),
    }
    for name in ("query", "key", "value"):
        path = layer + f"self_attn.{name[0]}_proj"
        names[name] = Stored(f"{path}.weight", transposed=True)
        names[f"{name}_bias"] = Stored(f"{path}.bias")
    for name in ("gate", "up", "down"):
        names[name] = Stored(layer + f"mlp.{name}_proj.weight", transposed=True)
    return names


def _llama(settings: ConfigFile) -> Architecture:
    settings.require(hidden_act="silu", rope_scaling=None, attention_bias=False, mlp_bias=False)
    settings.require(use_sliding_window=False)
    heads, width = settings.count("num_attention_heads"), settings.count("hidden_size")
    config = llama.Config(
        vocabulary=settings.count("vocab_size"),
        width=width,
        layers=settings.count("num_hidden_layers"),
        heads=heads,
        kv_heads=settings.count("num_key_value_heads", heads),
        hidden=settings.count("intermediate_size"),
        rope_theta=_rope_theta(settings),
        epsilon=settings.between("rms_norm_eps", *EPSILONS, 1e-6),
    )
    if width % (2 * heads):
        raise settings.error("hidden_size", f"it must be a multiple of {2 * heads}, 2 x heads")
    if heads % config.kv_heads:
        raise settings.error("num_key_value_heads", f"it must divide {heads}, the heads")
    settings.require(head_dim=width // heads)
    kinds = settings.get("layer_types", [])
    if not isinstance(kinds, list) or any(kind != "full_attention" for kind in kinds):
        raise settings.error("layer_types", "supported is 'full_attention' in all layers")
    return llama, config, llama_names()


def _rope_theta(settings: ConfigFile) -> float:
    """The base of the rotary frequencies. Newer versions of transformers keep it in a table."""
    rope = settings.table("rope_parameters")
    if rope.get("rope_type", "default") != "default":
        raise settings.error("rope_parameters", "supported is rope_type='default'")
    given = [t for t in (settings.get("rope_theta"), rope.get("rope_theta")) if t is not None]
    if not all(is_between(theta, *THETAS) for theta in given) or len(set(given)) > 1:
        raise ValueError(
            f"{settings.path} has rope_theta={' and '.join(map(shown, given))}; it must be one number "
            f"from {THETAS[0]:g} to {THETAS[1]:g}."
        )
    return float(given[0]) if given else 1e4


def _gpt2(settings: ConfigFile) -> Architecture:
    settings.require(scale_attn_by_inverse_layer_idx=False, scale_attn_weights=True)
    width = settings.count("n_embd")
    config = gpt.Config(
        vocabulary=settings.count("vocab_size"),
        width=width,
        layers=settings.count("n_layer"),
        heads=settings.count("n_head"),
        hidden=settings.count("n_inner", 4 * width),
        positions=settings.count("n_positions"),
        activation=settings.option("activation_function", gpt.ACTIVATIONS, "gelu_new"),
        epsilon=settings.between("layer_norm_epsilon", *EPSILONS, 1e-5),
    )
    if width % config.heads:
        raise settings.error("n_embd", f"it must be a multiple of {config.heads}, the heads")
    layer = "transformer.h.{}."
    names = {
        "embed": Stored("transformer.wte.weight"),
        "positions": Stored("transformer.wpe.weight"),
        "norm": Stored("transformer.ln_f.weight"),
        "norm_bias": Stored("transformer.ln_f.bias"),
        "head": Stored("lm_head.weight"),
    }
    parts = {"attention_norm": "ln_1", "mlp_norm": "ln_2"}
    parts |= {"output": "attn.c_proj", "up": "mlp.c_fc", "down": "mlp.c_proj"}
    for name, theirs in parts.items():
        names[name] = Stored(f"{layer}{theirs}.weight")
        names[f"{name}_bias"] = Stored(f"{layer}{theirs}.bias")
    for i, name in enumerate(("query", "key", "value")):
        names[name] = Stored(f"{layer}attn.c_attn.weight", i)
        names[f"{name}_bias"] = Stored(f"{layer}attn.c_attn.bias", i)
    return gpt, config, names


def _opt(settings: ConfigFile) -> Architecture:
    width = settings.count("hidden_size")
    settings.require(do_layer_norm_before=True, word_embed_proj_dim=width, enable_bias=True)
    settings.require(layer_norm_elementwise_affine=True, _remove_final_layer_norm=False)
    config = gpt.Config(
        vocabulary=settings.count("vocab_size"),
        width=width,
        layers=settings.count("num_hidden_layers"),
        heads=settings.count("num_attention_heads"),
        hidden=settings.count("ffn_dim"),
        positions=settings.count("max_position_embeddings") + 2,
        activation=settings.option("activation_function", gpt.ACTIVATIONS, "relu"),
        first_position=2,
    )
    if width % config.heads:
        raise settings.error("hidden_size", f"it must be a multiple of {config.heads}, the heads")
    start = "model.decoder."
    names = {
        "embed": Stored(start + "embed_tokens.weight"),
        "positions": Stored(start + "embed_positions.weight"),
        "norm": Stored(start + "final_layer_norm.weight"),
        "norm_bias": Stored(start + "final_layer_norm.bias"),
        "head": Stored("lm_head.weight"),
    }
    norms = {"attention_norm": "self_attn_layer_norm", "mlp_norm": "final_layer_norm"}
    parts = {"output": "self_attn.out_proj", "up": "fc1", "down": "fc2"}
    parts |= {name: f"self_attn.{name[0]}_proj" for name in ("query", "key", "value")}
    for name, theirs in (norms | parts).items():
        path = start + "layers.{}." + theirs
        names[name] = Stored(f"{path}.weight", transposed=name in parts)
        names[f"{name}_bias"] = Stored(f"{path}.bias")
    return gpt, config, names


ARCHITECTURES: dict[str, Callable[[ConfigFile], Architecture]] = {  # by model_type
    "llama": _llama,
    "qwen2": _llama,
    "gpt2": _gpt2,
    "opt": _opt,
}
