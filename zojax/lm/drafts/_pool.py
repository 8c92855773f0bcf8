"""A pool of phrases."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from zojax.lm.drafts._matching import taken
from zojax.lm.drafts._phrases import PER_KEY, appended, check, empty, newest
from zojax.lm.models.drafting import Draft, Round, branches


def pool(count: int = 8, size: int = 6, capacity: int = 2048) -> Draft:
    """A pool of phrases: the tokens after earlier uses of the last token, in all rows, newest first.

    Its state is the pool, `(capacity, 1 + size)` int32: a token and those after it. Each appended token
    begins a phrase once `size` tokens follow. The model's own choices correct rejected candidates. A
    repeated phrase moves to the end, and the oldest ones go; 20 of a first token stay. Give `memory` an
    earlier `Decoded.draft` to start warm.

    Source: Zhao et al., "Ouroboros: Generating Longer Drafts Phrase by Phrase for Faster Speculative
    Decoding", https://arxiv.org/abs/2402.13720.

    Args:
      count: phrases that are tried in a round.
      size: tokens of a phrase after its first.
      capacity: phrases that are kept.
    """
    check(count, size, capacity)

    def init(memory: Any, text: jax.Array, length: jax.Array) -> jax.Array:
        del text, length
        return empty(capacity, size) if memory is None else memory

    def propose(state: jax.Array, text: jax.Array, length: jax.Array) -> tuple[jax.Array, Any]:
        last = taken(text, length[:, None] - 1)[:, 0]
        return newest(state, last, count).reshape(len(text), -1), state

    def learn(state: jax.Array, seen: Round) -> jax.Array:
        ends = seen.length[:, None] + np.arange(size + 1)  # of phrases that are complete now
        phrases = taken(seen.text, ends[..., None] - np.arange(size, -1, -1))
        complete = (np.arange(size + 1) < seen.added[:, None]) & (ends >= size)
        phrases = jnp.where(complete[..., None], phrases, -1)
        last = taken(seen.text, seen.length[:, None, None] - 1)
        last = jnp.broadcast_to(last, seen.drafts[..., :1].shape)
        corrected = jnp.concatenate([last, seen.after[..., :size]], axis=2)
        is_used = (seen.drafts[..., :1] >= 0) & (seen.added[:, None, None] > 0)
        corrected = jnp.where(is_used, corrected, -1)
        new = jnp.concatenate([corrected, phrases], axis=1).reshape(-1, size + 1)
        return appended(state, new, most=max(count, PER_KEY))

    return Draft(branches(count, size), init, propose, learn)
