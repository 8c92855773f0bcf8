"""A `Task` from a model, its encoded examples and a split of their rows."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from zojax.lm._adapters import Adapter, partition
from zojax.lm._files import FilePath
from zojax.lm._model import Model
from zojax.lm.tasks._batches import in_order, pad
from zojax.lm.tasks._encoding import Tokens, check, encoded, is_encoder
from zojax.lm.tasks._examples import Example
from zojax.lm.tasks._fields import Fields
from zojax.lm.tasks._task import Batch, Task

SPLITS = (0.2, 0.4)  # held out, validation, and the rest for training
EVALUATED = 64  # rows of a batch, candidates counted


class Rows(NamedTuple):
    """The rows of each split, as indices of the examples."""

    held_out: np.ndarray
    validation: np.ndarray
    train: np.ndarray


def split_rows(count: int) -> Rows:
    """A fixed split of a file's rows."""
    order = np.random.default_rng(0).permutation(count)
    return Rows(*np.split(order, [int(s * count) for s in SPLITS]))


def assemble(
    model: Model,
    examples: list[Example],
    rows: Rows,
    kind: Callable[[Model, list[Example], Tokens, FilePath], Fields],
    path: FilePath,
    params: str,
    seed: int,
    adapter: Adapter,
) -> Task:
    """The task; raises ValueError for a text without a token, or with more than the model can read."""
    bare = model._replace(params={})  # so that the weights can be freed
    texts = [example.prompt for example in examples]
    tokens = encoded(bare, texts)
    fields = kind(bare, examples, tokens, path)
    room = model.module.limit(model.config)
    if room is not None:  # for a text, beside prefix and completion
        room -= fields.new + adapter.positions * (params == "prefix")
    check(bare, texts, tokens, room, path)
    begin = np.concatenate([tokens[i] for i in rows.train[:100]])
    trained, frozen = partition(model, params, seed, begin, adapter)
    padding = model.config.padding if is_encoder(model) else 0

    def take(indices: np.ndarray) -> Batch:
        batch = pad((tokens, fields.label), indices, longest=room, padding=padding)
        return batch | {name: array[indices] for name, array in fields.extras.items()}

    def batches(seed: int, size: int):
        rng = np.random.default_rng(seed)
        while True:
            yield take(rng.choice(rows.train, size))

    def split(name: str) -> list[Batch]:
        part = getattr(rows, name)
        choices = fields.label.shape[1] if fields.label.ndim == 3 else 1
        own = [tokens[i] for i in part], fields.label[part]
        size = max(1, EVALUATED // choices)
        return in_order(own, size, lambda _, indices: take(part[indices]))

    outcome = fields.objectives, fields.outputs, fields.scores
    return Task(trained, frozen, *outcome, batches, split)
