"""`Fields`: the fields of a `Task` that its kind decides, and labels of several tokens."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

from zojax.lm._files import FilePath
from zojax.lm._model import Model
from zojax.lm.tasks._encoding import continuations, is_encoder
from zojax.lm.tasks._examples import Example


class Fields(NamedTuple):
    """The fields of a `Task` that its kind decides.

    Attributes:
      label: `(N, ...)` int32, an entry of a batch.
      extras: further entries of a batch, `(N, ...)` each.
      objectives, outputs, scores: as in `Task`.
      new: tokens beside the prompt.
    """

    label: np.ndarray
    extras: dict[str, np.ndarray]
    objectives: dict[str, Callable[..., jax.Array]]
    outputs: Callable[..., jax.Array]
    scores: Callable[..., dict[str, dict[str, float]]]
    new: int


def completions_of(
    model: Model, examples: list[Example], texts: list[list[str]], path: FilePath
) -> np.ndarray:
    """The tokens of each example's texts with the stop at their ends, `(N, C, L)`, padded with -1."""
    if is_encoder(model):
        raise ValueError(f"{path}: an encoder writes no text; take a decoder, such as Llama.")
    pairs = [(e.prompt, text) for e, own in zip(examples, texts, strict=True) for text in own]
    stop = [] if model.stop is None else [model.stop]
    found = [ids + stop for ids in continuations(model, *zip(*pairs, strict=True))]
    if not any(found):
        raise ValueError(f"{path}: all completions are empty, and the model has no end of text.")
    padded = np.full((len(texts), max(map(len, texts)), max(map(len, found))), -1, np.int32)
    remaining = iter(found)
    for rows, own in zip(padded, texts, strict=True):
        for row, _ in zip(rows, own, strict=False):
            ids = next(remaining)
            row[: len(ids)] = ids
    return padded
