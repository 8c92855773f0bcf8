"""Llama, Mistral, Qwen2, Qwen3, Phi-3, SmolLM3 and Gemma: rows of one table, all of `zojax.lm.llama`."""

from typing import NamedTuple

from zojax.lm._files import shown
from zojax.lm.huggingface._config_file import ConfigFile, is_between
from zojax.lm.huggingface._stored import EPSILONS, Architecture, Stored, fused
from zojax.lm.models import llama
from zojax.lm.models.llama import Kind

THETAS = 1.0, 1e30
SIZES = 1e-6, 1e9
_BIASES = "query_bias", "key_bias", "value_bias"
_HEAD_NORMS = "query_norm", "key_norm"
_POST_NORMS = "attention_post_norm", "mlp_post_norm"
_SLIDING, _FULL = "sliding_attention", "full_attention"


class Family(NamedTuple):
    """How a `model_type` differs from Llama."""

    optional: tuple[str, ...] = ()  # parameters of its layers, of `llama.optional_shapes`
    is_tied: bool = False  # unless config.json says otherwise
    is_fused: bool = False  # query, key and value are one tensor, gate and up another
    is_gemma: bool = False
    epsilon: float = 1e-6
    theta: float = 1e4
    window: int | None = None  # where config.json has no sliding_window
    pattern: int | None = None  # every so many layers one sees all tokens, the others a window


FAMILIES = {
    "llama": Family(),
    "mistral": Family(window=4096),
    "qwen2": Family(_BIASES),
    "qwen3": Family(_HEAD_NORMS),
    "phi3": Family(is_fused=True, epsilon=1e-5),
    "smollm3": Family(is_tied=True, theta=2e6),
    "gemma2": Family(_POST_NORMS, is_tied=True, is_gemma=True, window=4096, pattern=2),
    "gemma3_text": Family(
        (*_POST_NORMS, *_HEAD_NORMS), True, is_gemma=True, theta=1e6, window=4096, pattern=6
    ),
}


def llama_names(family: Family, config: llama.Config) -> dict[str, Stored]:
    """The `Stored` of each parameter of `zojax.lm.llama`."""
    layer = "model.layers.{}."
    attention, mlp = layer + "self_attn.", layer + "mlp."
    after = layer + "post_attention_layernorm.weight"
    names = {
        "embed": Stored("model.embed_tokens.weight"),
        "norm": Stored("model.norm.weight"),
        "head": Stored("lm_head.weight"),
        "attention_norm": Stored(layer + "input_layernorm.weight"),
        "attention_post_norm": Stored(after),
        "mlp_norm": Stored(
            layer + "pre_feedforward_layernorm.weight" if family.is_gemma else after
        ),
        "mlp_post_norm": Stored(layer + "post_feedforward_layernorm.weight"),
        "output": Stored(attention + "o_proj.weight", transposed=True),
        "query_norm": Stored(attention + "q_norm.weight"),
        "key_norm": Stored(attention + "k_norm.weight"),
    }
    for name in ("query", "key", "value"):
        names[name] = Stored(f"{attention}{name[0]}_proj.weight", transposed=True)
        names[f"{name}_bias"] = Stored(f"{attention}{name[0]}_proj.bias")
    for name in ("gate", "up", "down"):
        names[name] = Stored(f"{mlp}{name}_proj.weight", transposed=True)
    if family.is_fused:
        q_width, kv_width = config.heads * config.size, config.kv_heads * config.size
        widths = dict(query=q_width, key=kv_width, value=kv_width)
        names |= fused(attention + "qkv_proj.weight", True, **widths)
        names |= fused(mlp + "gate_up_proj.weight", True, gate=config.hidden, up=config.hidden)
    return names


def llama_like(settings: ConfigFile, name: str) -> Architecture:
    """The architecture of a row of `FAMILIES`."""
    family = FAMILIES[name]
    settings.require(attention_bias=False, mlp_bias=False, partial_rotary_factor=1.0)
    heads, width = settings.count("num_attention_heads"), settings.count("hidden_size")
    config = llama.Config(
        vocabulary=settings.count("vocab_size"),
        width=width,
        layers=settings.count("num_hidden_layers"),
        heads=heads,
        kv_heads=settings.count("num_key_value_heads", heads),
        hidden=settings.count("intermediate_size"),
        epsilon=settings.between("rms_norm_eps", *EPSILONS, family.epsilon),
    )
    settings.require_multiple("hidden_size", 2 * heads, "2 x heads")
    if heads % config.kv_heads:
        raise settings.error("num_key_value_heads", f"it must divide {heads}, the heads")
    size = settings.count("head_dim", 256 if family.is_gemma else width // heads)
    if size % 2:
        raise settings.error("head_dim", "it must be even")
    config = config._replace(head_size=None if size == width // heads else size)
    if family.is_gemma:
        config = _gemma(settings, config, has_caps=name == "gemma2")
    else:
        activation = settings.option("hidden_act", llama.ACTIVATIONS, "silu")
        config = config._replace(activation=activation)
    kinds = _kinds(settings, name, config.layers)
    is_plain = kinds == (Kind(kinds[0].theta),)
    config = config._replace(**{"rope_theta": kinds[0].theta} if is_plain else {"kinds": kinds})
    places = llama_names(family, config)
    return Architecture(llama, config, places, family.optional, family.is_tied)


def _gemma(settings: ConfigFile, config: llama.Config, has_caps: bool) -> llama.Config:
    settings.require(use_bidirectional_attention=False)
    scalar = settings.between("query_pre_attn_scalar", *SIZES, 256)
    caps = (50.0, 30.0) if has_caps else (None, None)
    return config._replace(
        activation=settings.option("hidden_activation", llama.ACTIVATIONS, "gelu_pytorch_tanh"),
        gain_offset=1.0,
        embed_scale=config.width**0.5,
        score_divisor=scalar**0.5,
        score_cap=settings.optional("attn_logit_softcapping", *SIZES, caps[0]),
        logit_cap=settings.optional("final_logit_softcapping", *SIZES, caps[1]),
    )


def _kinds(settings: ConfigFile, name: str, layers: int) -> tuple[Kind, ...]:
    """The attention of each layer, or one for all."""
    table = settings.table("rope_parameters")
    if _FULL in table:  # as newer versions of transformers write Gemma 3
        full, local = (_rope(settings, _part(settings, kind), None) for kind in (_FULL, _SLIDING))
    else:
        full = local = _rope(settings, table, FAMILIES[name].theta)
        if name == "gemma3_text":
            local = Kind(settings.between("rope_local_base_freq", *THETAS, 1e4))
    if name == "smollm3":
        return tuple(full if rotated else Kind(None) for rotated in _rotated(settings, layers))
    local = local._replace(window=_window(settings, name))
    sliding = _sliding(settings, name, layers, local.window)
    kinds = [local if slides else full for slides in sliding]
    return tuple(kinds) if len(set(kinds)) > 1 else (kinds[0],)


def _rope(settings: ConfigFile, table: dict, default: float | None) -> Kind:
    """Rotary frequencies from `rope_parameters`, or from the older `rope_theta` and `rope_scaling`."""
    older = settings.table("rope_scaling")
    theta, table, key = _theta(settings, table, default), older or table, "rope_parameters"
    key = "rope_scaling" if older else key
    kind = table.get("rope_type", table.get("type", "default"))
    if table.get("partial_rotary_factor", 1.0) != 1:
        raise settings.error(key, "supported is partial_rotary_factor=1.0")
    if kind == "default":
        return Kind(theta)
    if kind not in ("linear", "llama3"):
        raise settings.error(key, "supported are rope_type='default', 'linear' and 'llama3'")
    names = ["factor"]
    if kind == "llama3":
        names += ["low_freq_factor", "high_freq_factor", "original_max_position_embeddings"]
    numbers = [table[name] for name in names if is_between(table.get(name), *SIZES)]
    if len(numbers) < len(names):
        raise settings.error(key, f"it needs numbers {', '.join(names)}")
    if kind == "linear":
        return Kind(theta, float(numbers[0]))
    factor, low, high, original = map(float, numbers)
    if low >= high:
        raise settings.error(key, "low_freq_factor must be below high_freq_factor")
    return Kind(theta, factor, (low, high, original))


def _part(settings: ConfigFile, kind: str) -> dict:
    """The rotary table of one kind of layer."""
    part = settings.table("rope_parameters").get(kind)
    if not isinstance(part, dict):
        raise settings.error("rope_parameters", f"it must have an object {kind}")
    return part


def _theta(settings: ConfigFile, table: dict, default: float | None) -> float:
    """The base of the rotary frequencies. Newer versions of transformers keep it in a table."""
    given = [t for t in (settings.get("rope_theta"), table.get("rope_theta")) if t is not None]
    if not all(is_between(theta, *THETAS) for theta in given) or len(set(given)) > 1:
        raise ValueError(
            f"{settings.path} has rope_theta={' and '.join(map(shown, given))}; it must be one number "
            f"from {THETAS[0]:g} to {THETAS[1]:g}."
        )
    theta = given[0] if given else default
    if theta is None:
        raise settings.error("rope_parameters", "it needs a rope_theta for each kind of layer")
    return float(theta)


def _window(settings: ConfigFile, name: str) -> int | None:
    """The window of sliding layers; None if there is none."""
    if name in ("llama", "smollm3"):
        settings.require(use_sliding_window=False)
        return None
    if name.startswith("qwen") and not settings.flag("use_sliding_window", False):
        return None
    default = FAMILIES[name].window
    if settings.optional("sliding_window", 1, 2**31 - 1, default) is None:
        return None
    return settings.count("sliding_window", default)


def _sliding(settings: ConfigFile, name: str, layers: int, window: int | None) -> list[bool]:
    """Does a layer have a window? Of each layer, or one for all."""
    given, known = settings.get("layer_types"), [_FULL] if window is None else [_FULL, _SLIDING]
    if given is not None and name not in ("mistral", "phi3"):
        if not isinstance(given, list) or any(kind not in known for kind in given):
            raise settings.error("layer_types", f"it must list one of {known} for each layer")
        if len(given) != layers:
            raise settings.error("layer_types", f"it must list {layers} layers, got {len(given)}")
        return [kind == _SLIDING for kind in given]
    if window is None or name in ("mistral", "phi3"):
        return [window is not None]
    _check_depth(settings, layers)
    if name.startswith("qwen"):
        first = settings.between("max_window_layers", 0, 2**31 - 1, 28)
        return [i >= first for i in range(layers)]
    every = settings.count("sliding_window_pattern", FAMILIES[name].pattern)
    return [(i + 1) % every > 0 for i in range(layers)]


def _rotated(settings: ConfigFile, layers: int) -> list[bool]:
    """Does a layer of SmolLM3 rotate its queries and keys?"""
    _check_depth(settings, layers)
    settings.require(use_sliding_window=False)
    every = settings.count("no_rope_layer_interval", 4)
    given = settings.get("no_rope_layers", [int((i + 1) % every > 0) for i in range(layers)])
    if not isinstance(given, list) or len(given) < layers or any(x not in (0, 1) for x in given):
        raise settings.error("no_rope_layers", f"it must list 0 or 1 for each of {layers} layers")
    return [bool(x) for x in given[:layers]]


def _check_depth(settings: ConfigFile, layers: int) -> None:
    if layers > 10**4:
        raise settings.error("num_hidden_layers", "it must be 10,000 at most")
