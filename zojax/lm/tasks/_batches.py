"""Batches of token sequences: padding, order and balance."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import numpy as np

from zojax.lm.tasks._task import Batch

T = TypeVar("T")
Tokens = list[list[int]]


def pad(
    part: tuple[Tokens, np.ndarray],
    indices: Sequence[int] | np.ndarray,
    longest: int | None = None,
    padding: int = 0,
) -> Batch:
    """Pads rows on the right to a multiple of 8, so that few shapes are compiled.

    Args:
      part: tokens of all rows, and their labels.
      indices: the rows of the batch.
      longest: the most columns; None for no limit.
      padding: the token that fills rows up.

    Returns:
      `tokens` `(B, T)` int32, `position` `(B,)` int32 of each last token, and `label`.

    >>> batch = pad(([[5, 6], [7]], np.array([0, 1])), [1, 0], longest=3)
    >>> batch["tokens"].tolist(), batch["position"].tolist(), batch["label"].tolist()
    ([[7, 0, 0], [5, 6, 0]], [0, 1], [1, 0])
    """
    tokens, labels = part
    chosen = [tokens[i] for i in indices]
    lengths = np.array([len(t) for t in chosen])
    width = -(-lengths.max() // 8) * 8
    width = width if longest is None else min(width, longest)
    padded = np.full((len(chosen), width), padding, np.int32)
    for row, ids in zip(padded, chosen, strict=True):
        row[: len(ids)] = ids
    position = (lengths - 1).astype(np.int32)
    return {"tokens": padded, "position": position, "label": labels[list(indices)]}


def in_order(
    part: tuple[Tokens, np.ndarray], size: int = 64, fill: Callable[..., Batch] = pad
) -> list[Batch]:
    """Batches of all rows, shortest first: rows of like length need little padding."""
    order = np.argsort([len(t) for t in part[0]], kind="stable")
    return [fill(part, order[i : i + size]) for i in range(0, len(order), size)]


def balanced(part: tuple[Tokens, np.ndarray], seed: int, size: int, total: int) -> list[Batch]:
    """Batches of about `total` rows, half of label 0 and half of label 1, of like length.

    A zeroth-order step cannot average the noise of a chance imbalance over coordinates.
    """
    tokens, labels = part
    lengths, half = np.array([len(t) for t in tokens]), size // 2
    rng = np.random.default_rng(seed)
    classes = [rng.permutation(np.flatnonzero(labels == label)) for label in (0, 1)]
    usable = min(total // 2, *map(len, classes)) // half * half
    classes = [c[:usable][np.argsort(lengths[c[:usable]], kind="stable")] for c in classes]
    rows = np.concatenate([c.reshape(-1, half) for c in classes], axis=1)
    return [pad(part, indices) for indices in rows]


def shuffled(batches: list[T], seed: int) -> Iterator[T]:
    """All batches again and again, each time in a new order."""
    rng = np.random.default_rng(seed)
    while True:
        for i in rng.permutation(len(batches)):
            yield batches[i]
