"""What is fine-tuned: a task is parameters, functions of them and a batch to be minimised, and batches.

The layers below everything that is trained see no perturbed parameter. They run once for every
review, before training starts; steps begin where they end.
"""

import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from zojax.examples import _report, _reviews, _smollm2
from zojax.examples._trained import joined
from zojax.examples.models import llama, mlp

__all__ = [
    "PARAMS",
    "TASKS",
    "Task",
    "classification",
    "digits",
    "in_order",
    "mean_nll",
    "pad",
    "reviews",
]

PARAMS = ("shifts", "norms", "lora", "prefix", "full")
PROMPT = "Review: {}\nSentiment:"
VERBALIZERS = (" negative", " positive")
FIRST_TRAINED = 17  # of 30 layers; those below are frozen in "shifts" and "norms"
POOL = 1536  # training reviews, which bounds the memory of what the lower layers computed


class Task(NamedTuple):
    """One thing to fine-tune.

    Attributes:
      params: the pytree that is trained.
      frozen: the pytree that is not.
      objectives: dict from a name to `(params, frozen, batch) ->` a scalar to be minimised; `"nll"`
        is differentiable, `"accuracy"` and `"f1"` (one minus these) are not.
      outputs: `(params, frozen, batch) -> (B, K)` float32, from which a split is scored: logits, or
        what `zojax.examples._report.completion` takes.
      scores: `(outputs, labels) ->` rows of a table, see `zojax.examples._report`.
      batches: `(seed, size) ->` an endless iterator of training batches: dicts of arrays,
        `"label"` among them. Shapes take a handful of values.
      split: `(name) ->` a list of batches; `"held_out"` is for reporting, `"validation"` for
        choosing settings.
    """

    params: Any
    frozen: Any
    objectives: dict[str, Callable[..., jax.Array]]
    outputs: Callable[..., jax.Array]
    scores: Callable[..., dict]
    batches: Callable[[int, int], Iterator[dict]]
    split: Callable[[str], list[dict]]


def mean_nll(logits, labels):
    """The mean negative log-likelihood of `labels` `(B,)` under `logits` `(B, C)`."""
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def classification(logits):
    """Objectives, outputs and scores of a task with `logits(params, frozen, batch) -> (B, C)`."""

    def nll(params, frozen, batch):
        return mean_nll(logits(params, frozen, batch), batch["label"])

    def accuracy(params, frozen, batch):
        choices = jnp.argmax(logits(params, frozen, batch), axis=1)
        return 1 - jnp.mean((choices == batch["label"]).astype(jnp.float32))

    return {"nll": nll, "accuracy": accuracy}, logits, _report.classification


def reviews(params, seed):
    """Sentiment of movie reviews with SmolLM2-135M-Instruct, a two-way choice of the next token.

    Args:
      params: `"shifts"` are vectors added after each norm of the upper layers, zero at first;
        `"norms"` the norms' gains there; `"full"` every weight.
      seed: unused; the pretrained weights and the split are fixed.

    Returns:
      A `Task`.

    Raises:
      AssetError: if model or data cannot be downloaded.
    """
    from tqdm import tqdm

    del seed
    weights, tokenizer = _smollm2.load()
    rows = np.array([tokenizer.encode(word).ids[0] for word in VERBALIZERS])
    splits = {n: _tokenised(tokenizer, r) for n, r in _reviews.load()._asdict().items()}
    trained, frozen, lower = _divide(weights, params, rows)
    run_lower = jax.jit(partial(llama.blocks, _smollm2.CONFIG))

    def prepare(batch):
        if params == "full":
            return batch
        hidden = run_lower(lower, weights["embed"][batch["tokens"]])
        return {"hidden": hidden, "position": batch["position"], "label": batch["label"]}

    def prepared(batches):
        bar = tqdm(batches, "frozen layers", leave=False, delay=1, unit="batch", file=sys.stderr)
        return [jax.block_until_ready(prepare(batch)) for batch in bar]

    def logits(params, frozen, batch):
        whole = joined(params, frozen)
        x = batch["hidden"] if "hidden" in batch else whole["embed"][batch["tokens"]]
        x = llama.blocks(_smollm2.CONFIG, whole["layers"], x)
        words = whole["words"] if "words" in whole else whole["embed"][rows]
        return llama.readout(_smollm2.CONFIG, whole["norm"], words, x, positions=batch["position"])

    def batches(seed, size):
        if size % 2:
            raise ValueError(f"batch must be even, half of each label, got {size}; try {size + 1}.")
        return _cycle(prepared(_even_batches(splits["train"], seed, size, POOL)), seed)

    def split(name):
        return prepared(in_order(splits[name]))

    return Task(trained, frozen, *classification(logits), batches, split)


def digits(params, seed):
    """Scikit-learn's 8 x 8 digits with a small multilayer perceptron, from random weights.

    Args:
      params: `"full"`; there is nothing else to train.
      seed: of the initial weights.

    Returns:
      A `Task`.

    Raises:
      ValueError: if `params` is not `"full"`.
    """
    from sklearn.datasets import load_digits

    if params != "full":
        raise ValueError(f"params must be 'full' for the digits, got {params!r}.")
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    x, y = (images[order] / 16).astype(np.float32), labels[order].astype(np.int32)
    held_out, validation, train = np.split(np.arange(len(y)), (400, 600))
    splits = {"held_out": held_out, "validation": validation}

    def take(indices):
        return {"x": x[indices], "label": y[indices]}

    def batches(seed, size):
        rng = np.random.default_rng(seed)
        while True:
            yield take(rng.choice(train, size))

    def logits(params, frozen, batch):
        return mlp.forward(params, batch["x"])

    params = mlp.init(jax.random.key(seed), (64, 32, 10))
    return Task(params, {}, *classification(logits), batches, lambda name: [take(splits[name])])


TASKS = {"reviews": reviews, "digits": digits}


def _divide(weights, params, rows):
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
    zeros = jnp.zeros_like(upper["attention_norm"])
    return {"layers": {"attention_shift": zeros, "mlp_shift": zeros}}, frozen, lower


def _tokenised(tokenizer, reviews):
    encoded = tokenizer.encode_batch([PROMPT.format(text) for text in reviews.texts])
    return [e.ids for e in encoded], reviews.labels


def pad(part, indices, longest=None):
    """Rows padded on the right to a multiple of 8, or `longest`, so that few shapes are ever compiled."""
    tokens, labels = part
    chosen = [tokens[i] for i in indices]
    lengths = np.array([len(t) for t in chosen])
    width = -(-lengths.max() // 8) * 8
    padded = np.zeros((len(chosen), width if longest is None else min(width, longest)), np.int32)
    for row, ids in zip(padded, chosen, strict=True):
        row[: len(ids)] = ids
    return {
        "tokens": padded,
        "position": (lengths - 1).astype(np.int32),
        "label": labels[list(indices)],
    }


def in_order(part, size=64, fill=pad):
    """All reviews of a split once, shortest first: rows of like length need little padding."""
    order = np.argsort([len(t) for t in part[0]], kind="stable")
    return [fill(part, order[i : i + size]) for i in range(0, len(order), size)]


def _even_batches(part, seed, size, total):
    """About `total` reviews in batches of like length, half of each positive, half negative.

    Half and half takes the chance imbalance of labels out of the loss, whose noise a zeroth-order
    step cannot average over coordinates.
    """
    tokens, labels = part
    lengths, half = np.array([len(t) for t in tokens]), size // 2
    rng = np.random.default_rng(seed)
    classes = [rng.permutation(np.flatnonzero(labels == label)) for label in (0, 1)]
    usable = min(total // 2, *map(len, classes)) // half * half
    classes = [c[:usable][np.argsort(lengths[c[:usable]], kind="stable")] for c in classes]
    rows = np.concatenate([c.reshape(-1, half) for c in classes], axis=1)
    return [pad(part, indices) for indices in rows]


def _cycle(batches, seed):
    """All batches again and again, in a new order each time."""
    rng = np.random.default_rng(seed)
    while True:
        for i in rng.permutation(len(batches)):
            yield batches[i]
