"""Lookahead decoding: a model drafts for itself, without another model or an earlier text."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from zojax._checks import require_count
from zojax.lm.drafts._matching import taken
from zojax.lm.drafts._phrases import appended, check, empty, newest
from zojax.lm.models.drafting import Draft, Round, Tree, branches, joined


class Looking(NamedTuple):
    """The state of `lookahead`.

    Attributes:
      phrases: `(capacity, 1 + size)` int32, the pool.
      window: `(B, size, W)` int32, guesses; a row is one step of Jacobi's iteration after the row before.
      steps: int32, that the window has taken.
    """

    phrases: jax.Array
    window: jax.Array
    steps: jax.Array


def lookahead(window: int = 8, count: int = 8, size: int = 6, capacity: int = 2048) -> Draft:
    """Phrases from Jacobi's iteration on the next tokens, in the same forward pass that verifies others.

    `window` columns of `size` guesses stand beside the candidates. Column w begins w places after the next
    token. Each pass computes the model's choice after all columns at once, and makes a phrase of each. The
    pool's newest phrases of the last token are the candidates. The pool begins empty unless `memory` is an
    earlier `Decoded.draft`.

    Source: Fu et al., "Break the Sequential Dependency of LLM Inference Using Lookahead Decoding",
    https://arxiv.org/abs/2402.02057.

    Args:
      window: columns, phrases that a pass makes.
      count: phrases that are tried in a round.
      size: tokens of a phrase after its first.
      capacity: phrases that are kept, at most 20 of a first token.
    """
    check(count, size, capacity)
    require_count("window", window)
    guesses = size * window

    def init(memory: Looking | None, text: jax.Array, length: jax.Array) -> Looking:
        phrases = empty(capacity, size) if memory is None else memory.phrases
        some = np.random.default_rng(0).integers(0, 2**30, (size, window))  # tokens of the prompt
        guessed = taken(text, jnp.asarray(some) % length[:, None, None])
        return Looking(phrases, guessed, jnp.zeros((), jnp.int32))

    def propose(state: Looking, text: jax.Array, length: jax.Array) -> tuple[jax.Array, Looking]:
        last = taken(text, length[:, None] - 1)[:, 0]
        found = newest(state.phrases, last, count)
        parts = [part.reshape(len(text), -1) for part in (state.window, found)]
        return jnp.concatenate(parts, axis=1), state

    def learn(state: Looking, seen: Round) -> Looking:
        new = seen.answers[:, None, 1 + guesses - window : 1 + guesses]
        whole = jnp.concatenate([state.window, new], axis=1)
        is_asked = jnp.any(new >= 0)  # not in a round without a draft
        # Beyond the first guesses:
        is_made = is_asked & (seen.added > 0) & (state.steps >= size - 1)
        made = jnp.where(is_made[:, None, None], whole.mT, -1).reshape(-1, size + 1)
        moved = jnp.where(is_asked, whole[:, 1:], state.window)
        return Looking(appended(state.phrases, made), moved, state.steps + is_asked)

    return Draft(joined(_window(size, window), branches(count, size)), init, propose, learn)


def _window(size: int, window: int) -> Tree:
    """Guesses row by row: one sees the first row up to its column, and its column up to itself."""
    row, column = np.divmod(np.arange(size * window), window)
    earlier, same = (column <= column[:, None]), (column == column[:, None])
    sees = ((row == 0) & earlier) | (same & (row <= row[:, None]))
    return Tree(sees, np.zeros((0, size), int), row == size - 1)
