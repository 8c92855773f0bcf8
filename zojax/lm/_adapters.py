"""Trained and frozen parameters of a model: all weights, norms, LoRA adapters or a prefix."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from zojax._checks import require_count
from zojax.lm._model import Model


class Adapter(NamedTuple):
    """Sizes of the adapters that `partition` makes.

    Attributes:
      rank: of LoRA.
      alpha: of LoRA: its scale times `rank`.
      targets: names of the matrices that get LoRA.
      positions: of a prefix, 5 as in MeZO.
    """

    rank: int = 8
    alpha: float = 16.0
    targets: tuple[str, ...] = ("query", "value")
    positions: int = 5


MEZO = Adapter()


def partition(
    model: Model,
    params: str,
    seed: int,
    tokens: ArrayLike | Sequence[int] = (),
    adapter: Adapter = MEZO,
    last: int | None = None,
) -> tuple[dict, dict]:
    """Splits a model into a trained and a frozen part. Frozen arrays take no noise.

    Args:
      params: the trained part:

        - `"full"`: every weight;
        - `"norms"`: gains and biases of the norms;
        - `"lora"`: adapters of low rank, see `lora`;
        - `"prefix"`: keys and values of positions before the text, see `prefix`; not for encoders.
      seed: of the adapters.
      tokens: `(n,)` integers, the beginning of a prompt. A prefix starts as its activations.
      adapter: sizes of LoRA and prefix.
      last: trains so many last layers, with `"norms"` the final norm, too; None: all layers. The members of
        a population share the pass of a batch through the others. `merge` puts the layers together.

    Returns:
      `(trained, frozen)`, two trees that `combine` puts together.

    Raises:
      ValueError: for sizes that are not positive, an unknown target, a prefix for an encoder or without
        tokens; for `last` with a prefix or an encoder, or unless it leaves a layer on both sides.
    """
    rank, alpha, targets, positions = adapter
    if last is not None:
        return _of_last(model, params, seed, adapter, last)
    if params == "lora":
        layers = lora(model.params["layers"], jax.random.key(seed), rank, alpha, targets)
        return {"layers": layers}, model.params
    if params == "prefix":
        require_count("positions", positions)
        if not np.size(tokens):
            raise ValueError(
                "a prefix starts as activations; give tokens, such as a prompt's first ones."
            )
        if not hasattr(model.module, "extend"):
            raise ValueError("an encoder takes no prefix; train lora, norms or full.")
        return {"layers": prefix(model, model.params, np.asarray(tokens)[:positions])}, model.params

    def is_trained(name: str) -> bool:
        return params == "full" or "norm" in name

    return _chosen(model, is_trained), _chosen(model, lambda name: not is_trained(name))


def _of_last(
    model: Model, params: str, seed: int, adapter: Adapter, last: int
) -> tuple[dict, dict]:
    """`partition` of the last layers, in a stack `upper` of their own."""
    layers = model.params["layers"]
    depth = len(jax.tree.leaves(layers)[0])
    if params == "prefix" or not hasattr(model.module, "extend"):
        raise ValueError("last needs a model that generates, and norms, lora or full.")
    if not 1 <= last < depth:
        raise ValueError(f"last must be from 1 to {depth - 1}, got {last}.")
    lower = jax.tree.map(lambda a: a[:-last], layers)
    upper = jax.tree.map(lambda a: a[-last:], layers)
    outer = {} if params == "lora" else {n: a for n, a in model.params.items() if "norm" in n}
    part = model._replace(params={**outer, "layers": upper})
    trained, frozen = partition(part, params, seed, adapter=adapter)
    rest = {name: array for name, array in model.params.items() if name not in trained}
    return (
        {**trained, "layers": {"upper": trained["layers"]}},
        {**rest, "layers": {**lower, "upper": frozen["layers"]}},
    )


def _chosen(model: Model, keep: Callable[[str], bool]) -> dict:
    """The parameters of chosen names."""
    outer = {n: w for n, w in model.params.items() if n != "layers" and keep(n)}
    return {**outer, "layers": {n: w for n, w in model.params["layers"].items() if keep(n)}}


def combine(params: dict, frozen: dict) -> dict:
    """A model's parameters from their trained and their frozen part.

    >>> combine({"layers": {"a": 1}}, {"norm": 2, "layers": {"a": 0, "b": 3}})
    {'norm': 2, 'layers': {'a': 1, 'b': 3}}
    """
    inner = {n: combine(p, frozen.get(n, {})) for n, p in params.items() if isinstance(p, dict)}
    return {**frozen, **params, **inner}


def lora(
    layers: dict,
    key: jax.Array,
    rank: int = 8,
    alpha: float = 16.0,
    targets: Sequence[str] = ("query", "value"),
) -> dict[str, jax.Array]:
    """LoRA adapters (https://arxiv.org/abs/2106.09685): W + A B, for queries and values by default.

    W is frozen. B starts at zero, so the model starts unchanged.

    Args:
      layers: stacked layers of a model, with matrices `(L, D, K)`.
      key: a JAX key. A is normal with variance `(alpha / rank)^2 / D`, which includes the paper's scale.
      rank: r.
      alpha: the paper's scale times `rank`.
      targets: names of matrices.

    Returns:
      `query_a`, `value_a` `(L, D, r)` and `query_b`, `value_b` `(L, r, K)`, in the layers' dtype.

    Raises:
      ValueError: for a target that is no matrix of the layers, and a rank or alpha that is not positive.

    >>> layers = {"query": jnp.ones((3, 16, 16)), "value": jnp.ones((3, 16, 8))}
    >>> {n: a.shape for n, a in lora(layers, jax.random.key(0), rank=2).items()}
    {'query_a': (3, 16, 2), 'query_b': (3, 2, 16), 'value_a': (3, 16, 2), 'value_b': (3, 2, 8)}
    """
    if rank < 1 or not alpha > 0:
        raise ValueError(f"rank and alpha must be positive, got {rank} and {alpha}.")
    made = {}
    for name, k in zip(targets, jax.random.split(key, len(targets)), strict=True):
        if name not in layers or layers[name].ndim != 3:
            known = sorted(n for n, matrix in layers.items() if matrix.ndim == 3)
            raise ValueError(f"targets must be of {known}, got {name!r}.")
        depth, width, out = layers[name].shape
        a = alpha / rank * jax.random.normal(k, (depth, width, rank)) / width**0.5
        made[f"{name}_a"] = a.astype(layers[name].dtype)
        made[f"{name}_b"] = jnp.zeros((depth, rank, out), layers[name].dtype)
    return made


def merge(params: dict) -> dict:
    """A model's parameters in one stack of layers, with LoRA adapters added: W + A B, computed in float32.

    >>> eye = jnp.eye(2)[None]
    >>> layers = {"query": eye, "query_a": jnp.ones((1, 2, 1)), "query_b": jnp.ones((1, 1, 2))}
    >>> merge({"layers": layers})["layers"]["query"].tolist()
    [[[2.0, 1.0], [1.0, 2.0]]]
    """
    layers = dict(params["layers"])
    if "upper" in layers:
        upper = merge({"layers": layers.pop("upper")})["layers"]
        stacked = partial(jax.tree.map, lambda *both: jnp.concatenate(both))
        layers = {name: stacked(lower, upper[name]) for name, lower in layers.items()}
    for name in [n.removesuffix("_a") for n in layers if n.endswith("_a")]:
        matrix, a, b = layers[name], layers.pop(f"{name}_a"), layers.pop(f"{name}_b")
        whole = jnp.float32(matrix) + jnp.float32(a) @ jnp.float32(b)
        layers[name] = whole.astype(matrix.dtype)
    return {**params, "layers": layers}


def prefix(model: Model, params: dict, tokens: ArrayLike) -> dict[str, jax.Array]:
    """A trainable prefix (https://arxiv.org/abs/2101.00190) that starts as the activations of tokens.

    A text after this prefix gets the same logits as after the tokens themselves.

    Returns:
      `{"prefix_key", "prefix_value"}`, `(L, m, K)` each, for `params["layers"]` and tokens `(m,)`.
    """
    run = jax.jit(partial(model.module.extend, model.config))
    _, (keys, values) = run(params, np.asarray(tokens)[None])
    return {"prefix_key": keys[:, 0], "prefix_value": values[:, 0]}
