"""A task from your own model and JSONL file.

A label is predicted by the first token of its name. A completion is written after its prompt.
"""

from functools import partial
from os import PathLike
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from zojax.lm._adapters import PREFIX, combine, partition
from zojax.lm._files import refusing, shown
from zojax.lm._model import Model
from zojax.lm.huggingface import load
from zojax.lm.tasks import _completions
from zojax.lm.tasks._batches import in_order, pad
from zojax.lm.tasks._jsonl import LABELLED, WRITTEN, Rows, read_jsonl
from zojax.lm.tasks._scores import completion_scores
from zojax.lm.tasks._task import Task, classification

_PROMPTS = {LABELLED: "{}\nLabel:", WRITTEN: "{}"}
_SPLITS = (0.2, 0.4)  # held out, validation, and the rest for training


def jsonl_task(
    weights: str | PathLike,
    path: str | PathLike,
    params: str,
    seed: int = 0,
    dtype: DTypeLike = np.float32,
    prompt: str | None = None,
    stop: str | None = None,
) -> Task:
    r"""Learns the second field of each row of a JSONL file from the first.

    Args:
      weights: a local Hugging Face folder, see `load`.
      path: a JSONL file, see `read_jsonl`.
      params: the trained part, see `partition`.
      seed: of the adapters. Pretrained weights and split are fixed.
      dtype: of all weights.
      prompt: a template with one `{}` for the text or prompt; other braces stand for themselves. None:
        `"{}\nLabel:"` for labels, `"{}"` for completions.
      stop: the token that ends a completion, as text. None: the model's own end of text.

    Raises:
      ValueError: if a file is missing or wrong; labels begin with the same token; `stop` is not one
        token; `prompt` has no place for the text; or a text has no token, an unknown token, or too many
        tokens.
      ModuleNotFoundError: without the extra `finetune`.
    """
    rows = read_jsonl(path)
    model = _with_stop(load(weights, dtype), weights, stop)
    tokens = _tokens(model, rows, prompt)
    order = np.random.default_rng(0).permutation(len(tokens))
    held_out, validation, train = np.split(order, [int(s * len(tokens)) for s in _SPLITS])
    splits = {"held_out": held_out, "validation": validation}
    bare = model._replace(params={})  # so that the weights can be freed
    of_kind = _labels if rows.fields == LABELLED else _texts
    labels, objectives, outputs, scores = of_kind(bare, rows.outputs, path)
    taken = (labels.shape[1] if labels.ndim == 2 else 0) + PREFIX * (params == "prefix")
    room = model.module.limit(model.config)
    if room is not None:  # for a text, beside prefix and completion
        room -= taken
    _check(bare, rows, tokens, room, path)
    begin = np.concatenate([tokens[i] for i in train[:100]])
    trained, frozen = partition(model, params, seed, begin)
    fill = partial(pad, longest=room)

    def batches(seed: int, size: int):
        rng = np.random.default_rng(seed)
        while True:
            yield fill((tokens, labels), rng.choice(train, size))

    def split(name: str):
        part = splits[name]
        return in_order(([tokens[i] for i in part], labels[part]), fill=fill)

    return Task(trained, frozen, objectives, outputs, scores, batches, split)


def _with_stop(model: Model, weights: str | PathLike, stop: str | None) -> Model:
    """The model with another token that ends a text."""
    if model.tokenizer is None:
        raise ValueError(f"{weights} has no tokenizer.json.")
    if stop is None:
        return model
    ids = _encoded(model, stop)
    if len(ids) != 1:
        raise ValueError(
            f"stop must be one token of the model, got {shown(stop)}, which is {shown(ids)}."
        )
    return model._replace(stop=ids[0])


def _tokens(model: Model, rows: Rows, prompt: str | None) -> list[list[int]]:
    """The tokens of each input inside the prompt."""
    template = _PROMPTS[rows.fields] if prompt is None else prompt
    if template.count("{}") != 1:
        raise ValueError(f"prompt must have one {{}} for the text, got {template!r}.")
    with refusing("tokenizer.json cannot encode the texts of the task"):
        encoded = model.tokenizer.encode_batch([template.replace("{}", t) for t in rows.inputs])
    return [e.ids for e in encoded]


def _check(
    model: Model, rows: Rows, tokens: list[list[int]], room: int | None, path: str | PathLike
) -> None:
    """Raises ValueError for a text without a token, with an unknown one, or with too many."""
    for text, ids in zip(rows.inputs, tokens, strict=True):
        where = f"{path}: the text {shown(text)}"
        if not ids:
            raise ValueError(f"{where} and its prompt have no token; leave it out.")
        if room is not None and len(ids) > room:
            raise ValueError(
                f"{where} has {len(ids)} tokens, but the model has room for {room} beside its prefix and "
                "the completion; shorten it."
            )
    _check_known(model, max(map(max, tokens)))


def _labels(
    model: Model, outputs: list[str], path: str | PathLike
) -> tuple[np.ndarray, Any, Any, Any]:
    """Labels, objectives, outputs and scores of classification by a label's first token."""
    names = sorted(set(outputs))
    encoded = [_encoded(model, f" {name}") for name in names]
    if not all(encoded) or not all(name.strip() for name in names):
        raise ValueError(f"{path}: labels must be names of a token at least, got {shown(names)}.")
    first = [ids[0] for ids in encoded]
    if len(names) < 2:
        raise ValueError(f"{path}: a task needs 2 labels at least, got {shown(names)}.")
    if len(set(first)) < len(names):
        raise ValueError(
            f"{path}: the labels {shown(names)} must begin with different tokens, got {shown(first)}."
        )
    chosen = np.array(first)

    def logits(params, frozen, batch):
        whole, positions = combine(params, frozen), batch["position"]
        return model.forward(whole, batch["tokens"], positions=positions, rows=chosen)

    labels = np.array([names.index(name) for name in outputs], np.int32)
    return labels, *classification(logits)


def _texts(
    model: Model, outputs: list[str], path: str | PathLike
) -> tuple[np.ndarray, Any, Any, Any]:
    """Labels, objectives, outputs and scores of completions, each with the model's stop at its end."""
    stop = [] if model.stop is None else [model.stop]
    encoded = [_encoded(model, text) + stop for text in outputs]
    if not any(encoded):
        raise ValueError(
            f"{path}: all completions are empty, and the model has no token that ends a text."
        )
    labels = np.full((len(encoded), max(map(len, encoded))), -1, np.int32)
    for row, ids in zip(labels, encoded, strict=True):
        row[: len(ids)] = ids

    def nll(params, frozen, batch):
        found = _completions.completion_nll(model, combine(params, frozen), batch)
        return jnp.sum(found) / jnp.sum(batch["label"] >= 0)

    def f1(params, frozen, batch):
        written = _completions.write(model, combine(params, frozen), batch)
        return 1 - jnp.mean(_completions.f1(written, batch["label"], model.stop))

    def judged(params, frozen, batch):
        whole, label = combine(params, frozen), batch["label"]
        written = _completions.write(model, whole, batch)
        columns = (
            jnp.sum(_completions.completion_nll(model, whole, batch), axis=1),
            jnp.sum(label >= 0, axis=1),
            _completions.f1(written, label, model.stop),
            _completions.exact(written, label, model.stop),
        )
        return jnp.stack(columns, axis=1)

    return labels, {"nll": nll, "f1": f1}, judged, completion_scores


def _encoded(model: Model, text: str) -> list[int]:
    with refusing(f"tokenizer.json cannot encode {shown(text)}"):
        ids = model.tokenizer.encode(text, add_special_tokens=False).ids
    _check_known(model, max(ids, default=0))
    return ids


def _check_known(model: Model, token: int) -> None:
    known = model.config.vocabulary
    if token >= known:
        raise ValueError(
            f"tokenizer.json makes token {token}, but the model has a vocabulary of {known}: "
            "they do not belong together."
        )
