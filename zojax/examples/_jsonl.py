"""A task of one's own: a model from a Hugging Face folder, and a JSONL file of texts and labels."""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from zojax.examples import _huggingface
from zojax.examples._tasks import Task, in_order, pad

__all__ = ["PROMPT", "read", "task"]

PROMPT = "{}\nLabel:"
_SPLITS = (0.2, 0.4)  # held out, validation, and the rest for training


def task(weights, path, params, seed, dtype=np.float32, prompt=PROMPT):
    """Classification of texts: the label is the first token of its name after the prompt.

    Args:
      weights: A folder as :func:`zojax.examples._huggingface.load` takes.
      path: A JSONL file, see :func:`read`.
      params: ``"full"``, every weight; ``"norms"``, the gains and biases of the norms; or ``"lora"``,
        see :func:`adapters`.
      seed: Of the adapters; the pretrained weights and the split are fixed.
      dtype: Of all weights.
      prompt: A template with one ``{}`` for the text.

    Returns:
      A :class:`zojax.examples._tasks.Task`.

    Raises:
      ValueError: If a file is missing or wrong, or labels begin with the same token.
    """
    model = _huggingface.load(weights, dtype)
    if model.tokenizer is None:
        raise ValueError(f"{weights} has no tokenizer.json.")
    texts, labels, names = read(path)
    rows = np.array(
        [model.tokenizer.encode(f" {n}", add_special_tokens=False).ids[0] for n in names]
    )
    if len(set(rows.tolist())) < len(names):
        raise ValueError(
            f"the labels {names} must begin with different tokens, got {rows.tolist()}."
        )
    encoded = model.tokenizer.encode_batch([prompt.format(text) for text in texts])
    tokens = [e.ids for e in encoded]
    order = np.random.default_rng(0).permutation(len(texts))
    held_out, validation, train = np.split(order, [int(s * len(texts)) for s in _SPLITS])
    splits = {"held_out": held_out, "validation": validation}
    whole = jax.tree.map(jnp.asarray, model.params)
    if params == "lora":
        trained, frozen = {"layers": adapters(whole["layers"], jax.random.key(seed))}, whole
    else:
        trained, frozen = divide(whole, params)

    def logits(params, frozen, batch):
        whole = {**frozen, **params, "layers": {**frozen["layers"], **params["layers"]}}
        return model.forward(whole, batch["tokens"], positions=batch["position"], rows=rows)

    def batches(seed, size):
        rng = np.random.default_rng(seed)
        while True:
            yield pad((tokens, labels), rng.choice(train, size))

    def split(name):
        part = splits[name]
        return in_order(([tokens[i] for i in part], labels[part]))

    return Task(trained, frozen, logits, batches, split)


def adapters(layers, key, rank=8):
    """LoRA (https://arxiv.org/abs/2106.09685): W + A B for queries and values, W frozen, B zero at first.

    Args:
      layers: Stacked layers of a model, with ``query`` and ``value`` ``(L, D, K)``.
      key: A JAX key; A is normal with variance 4 / D, the paper's scale alpha / r = 2 included.
      rank: r.

    Returns:
      ``query_a``, ``value_a`` ``(L, D, r)`` and ``query_b``, ``value_b`` ``(L, r, K)``, in their dtype.
    """
    made = {}
    for name, k in zip(("query", "value"), jax.random.split(key), strict=True):
        depth, width, out = layers[name].shape
        a = 2 * jax.random.normal(k, (depth, width, rank)) / width**0.5
        made[f"{name}_a"] = a.astype(layers[name].dtype)
        made[f"{name}_b"] = jnp.zeros((depth, rank, out), layers[name].dtype)
    return made


def divide(weights, params):
    """The trained and the frozen part of a model's weights; frozen layers take no gradient noise."""

    def chosen(name):
        return params == "full" or "norm" in name

    layers = weights["layers"]
    parts = []
    for keep in (chosen, lambda name: not chosen(name)):
        part = {n: w for n, w in weights.items() if n != "layers" and keep(n)}
        parts.append({**part, "layers": {n: w for n, w in layers.items() if keep(n)}})
    return parts


def read(path):
    """Reads lines of ``{"text": ..., "label": ...}``; labels are strings or numbers.

    Args:
      path: Of the file.

    Returns:
      Texts, ``(N,)`` int32 labels, and the labels' names, sorted.

    Raises:
      ValueError: If the file is missing or holds another thing, with the line.
    """
    path = pathlib.Path(path).expanduser()
    if not path.exists():
        raise ValueError(f"--task {path} does not exist; it is a JSONL file of text and label.")
    rows = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if line.strip():
            try:
                row = json.loads(line)
                rows.append((str(row["text"]), str(row["label"])))
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(
                    f"line {number} of {path} must be an object with text and label, got {line!r}."
                ) from error
    names = sorted({label for _, label in rows})
    if len(names) < 2 or len(rows) < 10:
        raise ValueError(
            f"{path} needs 10 examples and 2 labels at least, got {len(rows)} and {names}."
        )
    return [text for text, _ in rows], np.array([names.index(y) for _, y in rows], np.int32), names
