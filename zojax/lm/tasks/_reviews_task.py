"""The sentiment of movie reviews with SmolLM2-135M-Instruct.

The layers below the first trained one see no perturbed parameter. They run once for every review, before
training; the steps start from their outputs.
"""

import sys
from collections.abc import Callable, Iterator
from functools import lru_cache, partial

import jax
import jax.numpy as jnp
import numpy as np

from zojax.lm import _smollm2
from zojax.lm._adapters import combine, lora
from zojax.lm._extras import require
from zojax.lm._model import Model
from zojax.lm.models import llama
from zojax.lm.tasks import _reviews
from zojax.lm.tasks._batches import balanced, in_order, shuffled
from zojax.lm.tasks._task import Batch, Task, classification

REVIEW_PROMPT = "Review: {}\nSentiment:"
VERBALIZERS = (" negative", " positive")
FIRST_TRAINED = 17  # of 30 layers; those below are frozen in "shifts", "norms" and "lora"
QUANTIZED = "scales", "integers"  # fields of `Quantized` that may be trained
POOL = 1536  # training reviews, which bounds the memory of the lower layers' outputs


def reviews_task(params: str, seed: int = 0, longest: int | None = None) -> Task:
    """The sentiment of movie reviews, as a choice between two next tokens of SmolLM2-135M-Instruct.

    Args:
      params: the trained part. `"shifts"`: vectors added after each norm of the upper layers, zero at
        first; `"norms"`: the gains of these norms; `"lora"`: adapters of rank 8 for queries and values
        of these layers; `"full"`: every weight; `"scales"` or `"integers"`: of the 4-bit and 8-bit
        blocks of its file, see `Quantized`.
      seed: of the adapters. Pretrained weights and split are fixed.
      longest: leaves out reviews whose prompts have more tokens; None keeps all, up to some 90.

    Raises:
      ValueError: for other `params`, and from `batches` for an odd batch size.
      AssetError: if the model or the reviews cannot be downloaded.
      ModuleNotFoundError: without the extra `finetune`.
    """
    known = ("shifts", "norms", "lora", "full", *QUANTIZED)
    if params not in known:
        raise ValueError(f"params must be one of {', '.join(known)}, got {params!r}.")
    model = _smollm2.smollm2(quantized=params in QUANTIZED)
    rows = np.array([model.tokenizer.encode(word).ids[0] for word in VERBALIZERS])
    splits = {}
    for name, part in _reviews.reviews()._asdict().items():
        prompts = [REVIEW_PROMPT.format(text) for text in part.texts]
        tokens = [e.ids for e in model.tokenizer.encode_batch(prompts)]
        kept = [i for i, ids in enumerate(tokens) if longest is None or len(ids) <= longest]
        splits[name] = [tokens[i] for i in kept], part.labels[kept]
    if params in QUANTIZED:
        join, (trained, frozen, lower) = _joined, _blocks(model.params, params)
    else:
        join, (trained, frozen, lower) = combine, _divide(model.params, params, rows, seed)
    prepared = _preparation(model, lower)

    def logits(params, frozen, batch):
        whole = join(params, frozen)
        x = batch["hidden"] if "hidden" in batch else jnp.asarray(whole["embed"][batch["tokens"]])
        x = llama.blocks(model.config, whole["layers"], x)
        words = whole["words"] if "words" in whole else whole["embed"][rows]
        return llama.readout(model.config, whole["norm"], words, x, positions=batch["position"])

    @lru_cache(maxsize=1)  # another run with this seed begins at once
    def pool(seed: int, size: int) -> list[Batch]:
        return prepared(balanced(splits["train"], seed, size, POOL))

    def batches(seed: int, size: int) -> Iterator[Batch]:
        if size % 2:
            raise ValueError(f"batch must be even, half of each label, got {size}; try {size + 1}.")
        return shuffled(pool(seed, size), seed)

    def split(name: str) -> list[Batch]:
        return prepared(in_order(splits[name]))

    return Task(trained, frozen, *classification(logits), batches, split)


def _preparation(model: Model, lower: dict) -> Callable[[list[Batch]], list[Batch]]:
    """A function that runs the frozen lower layers of batches, if there are any."""
    if not lower:
        return lambda batches: batches
    embed, run = model.params["embed"], jax.jit(partial(llama.blocks, model.config))

    def prepare(batch: Batch) -> Batch:
        hidden = run(lower, embed[batch["tokens"]])
        return {"hidden": hidden, "position": batch["position"], "label": batch["label"]}

    def prepared(batches: list[Batch]) -> list[Batch]:
        options = dict(leave=False, delay=1, unit="batch", file=sys.stderr)
        bar = require("tqdm").tqdm(batches, "frozen layers", **options)
        return [jax.block_until_ready(prepare(batch)) for batch in bar]

    return prepared


def _divide(weights: dict, params: str, rows: np.ndarray, seed: int) -> tuple[dict, dict, dict]:
    """Trained and frozen parts of the weights, and the frozen layers below the first trained."""
    if params == "full":
        return jax.tree.map(jnp.asarray, weights), {"layers": {}}, {}
    lower = jax.tree.map(lambda w: jnp.asarray(w[:FIRST_TRAINED]), weights["layers"])
    upper = jax.tree.map(lambda w: jnp.asarray(w[FIRST_TRAINED:]), weights["layers"])
    norm, words = jnp.asarray(weights["norm"]), jnp.asarray(weights["embed"][rows])
    frozen = {"layers": upper, "norm": norm, "words": words}
    if params == "norms":
        gains = {name: upper[name] for name in ("attention_norm", "mlp_norm")}
        return {"layers": gains, "norm": norm}, frozen, lower
    if params == "lora":
        return {"layers": lora(upper, jax.random.key(seed))}, frozen, lower
    zeros = jnp.zeros_like(upper["attention_norm"])
    return {"layers": {"attention_shift": zeros, "mlp_shift": zeros}}, frozen, lower


def _blocks(weights: dict, field: str) -> tuple[dict, dict, dict]:
    """One field of all blocks, and all else; each tree has None in the places of the other."""
    pairs = jax.tree.map_with_path(
        lambda path, x: (jnp.asarray(x), getattr(path[-1], "name", None) == field), weights
    )
    is_pair = lambda x: isinstance(x, tuple)  # noqa: E731
    trained = jax.tree.map(lambda pair: pair[0] if pair[1] else None, pairs, is_leaf=is_pair)
    frozen = jax.tree.map(lambda pair: None if pair[1] else pair[0], pairs, is_leaf=is_pair)
    return trained, frozen, {}


def _joined(params: dict, frozen: dict) -> dict:
    """The two trees of `_blocks` as one."""
    either = lambda p, f: f if p is None else p  # noqa: E731
    return jax.tree.map(either, params, frozen, is_leaf=lambda x: x is None)
