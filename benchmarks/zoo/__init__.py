"""Models and layers of other packages, unchanged: `python -m benchmarks zoo` puts zojax to each of them.

A name is a file of this folder and a function in it, which returns a loss, initial parameters and data. A
package that is missing makes the rows of its models say so.
"""

import importlib

from benchmarks.models import Model

MODELS = {
    "linen": (
        "mlp",
        "lenet",
        "dqn",
        "alexnet_first",
        "resnet_block",
        "convnext_block",
        "vit_patches",
        "transposed_convolutions",
        "tied_embedding",
        "attention",
        "transformer",
        "norms",
        "weight_norm",
        "spectral_norm",
        "lstm",
        "gru",
        "scanned_layers",
        "einsum_heads",
    ),
    "nnx": ("mlp_batch_norm", "convolutions", "attention", "gru", "lora", "lora_merged", "stacked"),
    "equinox": (
        "mlp",
        "convolutions",
        "transposed",
        "rotary_attention",
        "gru",
        "lstm",
        "weight_norm",
        "spectral_norm",
        "ensemble",
    ),
    "haiku": (
        "mlp",
        "resnet_block",
        "separable",
        "transposed",
        "lstm",
        "gru",
        "convolutional_lstm",
        "vector_quantizer",
        "attention",
        "layer_stack",
    ),
    "graphs": ("graph_network", "attention", "convolution"),
    "solvers": ("neural_ode", "neural_sde", "fixed_point", "linear_solve"),
    "densities": (
        "masked_autoregressive_flow",
        "coupling_flow",
        "real_nvp",
        "bayesian_network",
        "hidden_markov_model",
        "gaussian_process",
    ),
    "losses": ("target_network", "actor_critic", "ctc", "distillation"),
    "plain": (
        "ragged",
        "switch",
        "hash_routed",
        "int8",
        "masked",
        "fused_qkv",
        "flat_vector",
        "sliced",
    ),
    "others": ("penzai_mlp", "e3nn_layer"),
}
NAMES = tuple(f"{file}.{name}" for file, names in MODELS.items() for name in names)
# Why a use stays without a rule, or a population above its forwards.
_IN_A_LOOP = "the forwards run in a loop, so only one of them is in memory"
WHY = {
    "plain.ragged": _IN_A_LOOP,
    "plain.hash_routed": _IN_A_LOOP,
    "graphs.attention": "JAX gathers nodes of all directions along another axis, and XLA copies them",
    "densities.real_nvp": "random bits of the factors and an output read twice, beside small activations",
    "plain.flat_vector": "a vector has no low-rank noise: each member has weights of its own",
    "plain.masked": "a mask of single entries: each member makes a weight of its own",
    "solvers.linear_solve": "a factorisation reads every entry of the matrix",
    "densities.hidden_markov_model": "softmax over the rows of a parameter acts on each entry",
    "densities.bayesian_network": "supports are checked entry by entry",
}


def make(name: str) -> Model:
    """Loss, parameters and data of a model by its name."""
    return _function(name)()


def about(name: str) -> str:
    """What the model is, in one line."""
    return (_function(name).__doc__ or "").strip().rstrip(".")


def _function(name: str):
    file, function = name.split(".")
    return getattr(importlib.import_module(f"benchmarks.zoo.{file}"), function)
