"""What of a model is trained: everything, its norms, adapters of low rank, or a prefix."""

import jax
import jax.numpy as jnp
import numpy as np

from zojax.examples import _huggingface

__all__ = ["PREFIX", "adapters", "divide", "joined"]

PREFIX = 5  # positions, as in MeZO


def divide(model, params, seed, tokens):
    """The trained and the frozen part of a model; frozen arrays take no noise.

    Args:
      model: a `zojax.examples._huggingface.Model`.
      params: `"full"`, every weight; `"norms"`, the gains and biases of the norms; `"lora"`, see
        `adapters`; or `"prefix"`, keys and values of `PREFIX` positions before the text
        (https://arxiv.org/abs/2101.00190).
      seed: of the adapters.
      tokens: the beginning of a prompt; the prefix begins as its activations.

    Returns:
      Two trees, which `joined` puts together.
    """
    if params == "lora":
        layers = adapters(model.params["layers"], jax.random.key(seed))
        return {"layers": layers}, model.params
    if params == "prefix":
        layers = _huggingface.prefix(model, model.params, np.asarray(tokens)[:PREFIX])
        return {"layers": layers}, model.params

    def chosen(name):
        return params == "full" or "norm" in name

    parts = []
    for keep in (chosen, lambda name: not chosen(name)):
        part = {n: w for n, w in model.params.items() if n != "layers" and keep(n)}
        layers = {n: w for n, w in model.params["layers"].items() if keep(n)}
        parts.append({**part, "layers": layers})
    return parts


def joined(params, frozen):
    """A model's parameters from their trained and their frozen part."""
    return {**frozen, **params, "layers": {**frozen["layers"], **params["layers"]}}


def adapters(layers, key, rank=8):
    """LoRA (https://arxiv.org/abs/2106.09685): W + A B for queries and values, W frozen, B zero at first.

    Args:
      layers: stacked layers of a model, with `query` and `value` `(L, D, K)`.
      key: a JAX key; A is normal with variance 4 / D, the paper's scale alpha / r = 2 included.
      rank: r.

    Returns:
      `query_a`, `value_a` `(L, D, r)` and `query_b`, `value_b` `(L, r, K)`, in their dtype.
    """
    made = {}
    for name, k in zip(("query", "value"), jax.random.split(key), strict=True):
        depth, width, out = layers[name].shape
        a = 2 * jax.random.normal(k, (depth, width, rank)) / width**0.5
        made[f"{name}_a"] = a.astype(layers[name].dtype)
        made[f"{name}_b"] = jnp.zeros((depth, rank, out), layers[name].dtype)
    return made
