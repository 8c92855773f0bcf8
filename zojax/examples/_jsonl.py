"""A task of one's own: a model from a Hugging Face folder, and a JSONL file.

Lines are `{"text": ..., "label": ...}`: the label is the first token of its name after the prompt. Or
they are `{"prompt": ..., "completion": ...}`: the completion is written after the prompt as it stands.
"""

import pathlib
from functools import partial
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from zojax.examples import _completions, _huggingface, _report
from zojax.examples._files import parse_json, refusing, shown
from zojax.examples._tasks import Task, classification, in_order, pad
from zojax.examples._trained import PREFIX, divide, joined

__all__ = ["Rows", "read", "task"]

_KINDS = {("text", "label"): "{}\nLabel:", ("prompt", "completion"): "{}"}
_SPLITS = (0.2, 0.4)  # held out, validation, and the rest for training


class Rows(NamedTuple):
    """A file's rows: `fields` are a key of `_KINDS`, `inputs` and `outputs` lists of strings."""

    fields: tuple[str, str]
    inputs: list[str]
    outputs: list[str]


def task(weights, path, params, seed, dtype=np.float32, prompt=None, stop=None):
    """Learns the second field of each row from the first.

    Args:
      weights: a folder as `zojax.examples._huggingface.load` takes.
      path: a JSONL file, see `read`.
      params: what is trained, see `zojax.examples._trained.divide`.
      seed: of the adapters; the pretrained weights and the split are fixed.
      dtype: of all weights.
      prompt: a template with one `{}` for the text or prompt, other braces standing for themselves;
        None: `"{}\\nLabel:"` or `"{}"`.
      stop: what ends a completion, one token; None: the model's own end of a text.

    Returns:
      A `zojax.examples._tasks.Task`.

    Raises:
      ValueError: if a file is missing or wrong, labels begin with the same token, `stop` is not one
        token, `prompt` has no place for the text, or a text suits the model not: it has no token, one
        that the model does not know, or too many.
    """
    rows = read(path)
    model = _huggingface.load(weights, dtype)
    if model.tokenizer is None:
        raise ValueError(f"{weights} has no tokenizer.json.")
    if stop is not None:
        ids = _encoded(model, stop)
        if len(ids) != 1:
            raise ValueError(
                f"stop must be one token of the model, got {shown(stop)}, which is {shown(ids)}."
            )
        model = model._replace(stop=ids[0])
    template = _KINDS[rows.fields] if prompt is None else prompt
    if template.count("{}") != 1:
        raise ValueError(f"prompt must have one {{}} for the text, got {template!r}.")
    with refusing("tokenizer.json cannot encode the texts of the task"):
        encoded = model.tokenizer.encode_batch([template.replace("{}", t) for t in rows.inputs])
    tokens = [e.ids for e in encoded]
    order = np.random.default_rng(0).permutation(len(tokens))
    held_out, validation, train = np.split(order, [int(s * len(tokens)) for s in _SPLITS])
    splits = {"held_out": held_out, "validation": validation}
    bare = model._replace(params=None)  # whoever trains may give them up
    of_kind = _labels if "label" in rows.fields else _texts
    labels, objectives, outputs, scores = of_kind(bare, rows.outputs, path)
    taken = (labels.shape[1] if labels.ndim == 2 else 0) + PREFIX * (params == "prefix")
    room = _check(bare, rows, tokens, taken, path)
    begin = np.concatenate([tokens[i] for i in train[:100]])
    trained, frozen = divide(model, params, seed, begin)
    fill = partial(pad, longest=room)

    def batches(seed, size):
        rng = np.random.default_rng(seed)
        while True:
            yield fill((tokens, labels), rng.choice(train, size))

    def split(name):
        part = splits[name]
        return in_order(([tokens[i] for i in part], labels[part]), fill=fill)

    return Task(trained, frozen, objectives, outputs, scores, batches, split)


def _check(model, rows, tokens, taken, path):
    """The most tokens of a text that the model has room for (None: any); raises for what does not suit."""
    positions = getattr(model.config, "positions", None)
    room = None if positions is None else positions - model.config.first_position - taken
    for text, ids in zip(rows.inputs, tokens, strict=True):
        start = shown(text)
        if not ids:
            raise ValueError(
                f"{path}: the text {start} and its prompt have no token; leave it out."
            )
        if room is not None and len(ids) > room:
            raise ValueError(
                f"{path}: the text {start} has {len(ids)} tokens, but the model has room for {room} "
                "beside its prefix and the completion; shorten it."
            )
    _check_known(model, max(map(max, tokens)))
    return room


def _labels(model, outputs, path):
    """Classification, by the first token of a label's name."""
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
        return model.forward(
            joined(params, frozen), batch["tokens"], positions=batch["position"], rows=chosen
        )

    labels = np.array([names.index(name) for name in outputs], np.int32)
    return labels, *classification(logits)


def _texts(model, outputs, path):
    """Completions with the model's stop behind them; judged also by what the model writes itself."""
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
        found = _completions.nll(model, joined(params, frozen), batch)
        return jnp.sum(found) / jnp.sum(batch["label"] >= 0)

    def f1(params, frozen, batch):
        written = _completions.write(model, joined(params, frozen), batch)
        return 1 - jnp.mean(_completions.f1(written, batch["label"], model.stop))

    def judged(params, frozen, batch):
        whole, label = joined(params, frozen), batch["label"]
        written = _completions.write(model, whole, batch)
        columns = (
            jnp.sum(_completions.nll(model, whole, batch), axis=1),
            jnp.sum(label >= 0, axis=1),
            _completions.f1(written, label, model.stop),
            _completions.exact(written, label, model.stop),
        )
        return jnp.stack(columns, axis=1)

    return labels, {"nll": nll, "f1": f1}, judged, _report.completion


def _encoded(model, text):
    with refusing(f"tokenizer.json cannot encode {shown(text)}"):
        ids = model.tokenizer.encode(text, add_special_tokens=False).ids
    _check_known(model, max(ids, default=0))
    return ids


def _check_known(model, token):
    known = model.config.vocabulary
    if token >= known:
        raise ValueError(
            f"tokenizer.json makes token {token}, but the model has a vocabulary of {known}: "
            "they do not belong together."
        )


def read(path):
    """Reads a JSONL file in UTF-8; values are strings or numbers.

    Args:
      path: of the file.

    Returns:
      `Rows`.

    Raises:
      ValueError: if the file is missing, short, or holds another thing, with the line.
    """
    path = pathlib.Path(path).expanduser()
    if not path.is_file():
        raise ValueError(f"--task {path} is no file; it is a JSONL file, one object a line.")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ValueError(f"--task {path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not in UTF-8: {error}.") from error
    fields, rows = None, []
    for number, line in enumerate(text.split("\n"), 1):  # strings may hold other ends of lines
        if line.strip():
            try:
                row = parse_json(line)
                fields = fields or next(f for f in _KINDS if set(f) <= set(row))
                rows.append(tuple(_as_text(row[name]) for name in fields))
            except (ValueError, KeyError, TypeError, StopIteration) as error:
                wanted = " or ".join(" and ".join(f) for f in ([fields] if fields else _KINDS))
                raise ValueError(
                    f"line {number} of {path} must be an object with {wanted}, strings or numbers, "
                    f"got {shown(line)}."
                ) from error
    if len(rows) < 10:
        raise ValueError(f"{path} needs 10 examples at least, got {len(rows)}.")
    return Rows(fields, *map(list, zip(*rows, strict=True)))


def _as_text(value):
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise TypeError(f"neither a string nor a number: {shown(value)}")
    text = str(value)
    text.encode()  # a lone surrogate is no text
    return text
