"""`Problem`: a model, its trained part, prompts and a reward."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jax.typing import ArrayLike

from zojax.lm._files import refusing, shown
from zojax.lm._model import Model
from zojax.lm.rewards._reward import Reward


class Prompts(NamedTuple):
    """A batch of prompts.

    Attributes:
      tokens: `(P, T)` int32, padded on the right.
      lengths: `(P,)` int32.
      examples: P objects, which the reward gets beside the text: an answer, a row, None.
      shared: so many first tokens are the same in all prompts; a model reads them once.
    """

    tokens: np.ndarray
    lengths: np.ndarray
    examples: Sequence[Any]
    shared: int = 0


class Problem(NamedTuple):
    """A training on rewards.

    Attributes:
      model: a `Model` that generates.
      params: its trained part, for example from `zojax.lm.partition`.
      frozen: the rest.
      reward: `(Written, examples) -> (N,)` numbers, for example from `each`. Larger is better; NaN stands
        for no reward.
      prompts: `(step) -> Prompts` from step 0 on. A run that continues asks for later steps only.
      new: tokens of a text, at most.
      held_out: `Prompts` to evaluate, or None.
      other: `(B, T)` tokens of another text, for the drift from the start, or None.
    """

    model: Model
    params: Any
    frozen: Any
    reward: Reward
    prompts: Callable[[int], Prompts]
    new: int
    held_out: Prompts | None = None
    other: ArrayLike | None = None


def encode(model: Model, texts: Sequence[str], examples: Sequence[Any], width: int = 0) -> Prompts:
    """The `Prompts` of texts, padded to the longest and to `width` at least.

    Raises ValueError for a text without a token.
    """
    with refusing("tokenizer.json cannot encode the prompts"):
        rows = [encoded.ids for encoded in model.tokenizer.encode_batch(list(texts))]
    for text, row in zip(texts, rows, strict=True):
        if not row:
            raise ValueError(f"the prompt {shown(text)} has no token; give a text.")
    lengths = np.array([len(row) for row in rows], np.int32)
    tokens = np.zeros((len(rows), max(width, lengths.max())), np.int32)
    for padded, row in zip(tokens, rows, strict=True):
        padded[: len(row)] = row
    differs = (tokens != tokens[0]).any(axis=0)
    shared = int(min(np.append(np.flatnonzero(differs), lengths.min() - 1)))
    return Prompts(tokens, lengths, list(examples), shared)


def batches(prompts: Prompts, size: int, seed: int = 0) -> Callable[[int], Prompts]:
    """`size` different prompts for each step, a function of seed and step.

    A batch is as wide as its longest prompt needs, in multiples of 8 tokens: few programs, little padding.

    >>> whole = Prompts(np.arange(6)[:, None], np.ones(6, int), list("abcdef"))
    >>> draw = batches(whole, 4)
    >>> draw(7).examples == draw(7).examples, draw(7).examples == draw(8).examples
    (True, False)

    Raises ValueError unless `size` is from 1 to the number of prompts.
    """
    count = len(prompts.examples)
    if not 1 <= size <= count:
        raise ValueError(f"size must be from 1 to the {count} prompts, got {size}.")

    def drawn(step: int) -> Prompts:
        which = np.random.default_rng([seed, step]).choice(count, size, replace=False)
        tokens, lengths, examples, shared = prompts
        width = -(-max(lengths[which]) // 8) * 8
        chosen = [examples[i] for i in which]
        return Prompts(tokens[which, :width], lengths[which], chosen, shared)

    return drawn
