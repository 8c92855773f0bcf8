"""GPT-2 and OPT: both of `zojax.lm.gpt`."""

from zojax.lm.huggingface._config_file import ConfigFile
from zojax.lm.huggingface._stored import EPSILONS, Architecture, Stored, fused, with_bias
from zojax.lm.models import gpt


def gpt2(settings: ConfigFile) -> Architecture:
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
    settings.require_multiple("n_embd", config.heads)
    layer = "transformer.h.{}."
    names = {
        "embed": Stored("transformer.wte.weight"),
        "positions": Stored("transformer.wpe.weight"),
        **with_bias("norm", "transformer.ln_f"),
        "head": Stored("lm_head.weight"),
    }
    parts = {"attention_norm": "ln_1", "mlp_norm": "ln_2"}
    parts |= {"output": "attn.c_proj", "up": "mlp.c_fc", "down": "mlp.c_proj"}
    for name, theirs in parts.items():
        names |= with_bias(name, f"{layer}{theirs}")
    widths = dict.fromkeys(("query", "key", "value"), width)
    names |= fused(f"{layer}attn.c_attn.weight", False, **widths)
    biases = fused(f"{layer}attn.c_attn.bias", False, **widths)
    names |= {f"{name}_bias": stored for name, stored in biases.items()}
    return Architecture(gpt, config, names, is_tied=True)


def opt(settings: ConfigFile) -> Architecture:
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
    settings.require_multiple("hidden_size", config.heads)
    start = "model.decoder."
    names = {
        "embed": Stored(start + "embed_tokens.weight"),
        "positions": Stored(start + "embed_positions.weight"),
        **with_bias("norm", f"{start}final_layer_norm"),
        "head": Stored("lm_head.weight"),
    }
    norms = {"attention_norm": "self_attn_layer_norm", "mlp_norm": "final_layer_norm"}
    parts = {"output": "self_attn.out_proj", "up": "fc1", "down": "fc2"}
    parts |= {name: f"self_attn.{name[0]}_proj" for name in ("query", "key", "value")}
    for name, theirs in (norms | parts).items():
        names |= with_bias(name, f"{start}layers.{{}}.{theirs}", name in parts)
    return Architecture(gpt, config, names, is_tied=True)
