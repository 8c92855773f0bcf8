"""Ouroboros: a smaller model drafts phrase by phrase, and the pool lengthens its draft."""

import jax
import jax.numpy as jnp
import numpy as np

from zojax.lm._model import Model
from zojax.lm.drafts._lookahead import lookahead
from zojax.lm.drafts._phrases import appended, check, newest
from zojax.lm.drafts._writer import Ahead, Writer
from zojax.lm.models.drafting import Draft, Round, Tree, branches


def ouroboros(
    smaller: Model,
    size: int = 12,
    count: int = 3,
    phrase: int = 6,
    window: int = 8,
    tried: int = 8,
    capacity: int = 2048,
) -> Draft:
    """A smaller model's draft by `lookahead`, lengthened with phrases of its pool.

    1. The smaller model writes `size` tokens by lookahead decoding.
    2. The pool's newest phrases of the last one follow it, side by side; each sees the draft and itself.
    3. One forward pass of the model verifies all. It takes the longest part that agrees, in a phrase too.
    4. The pool learns: runs of agreement behind a rejected token become phrases. The model's own choices
       replace the phrases of 2.

    The pool begins empty unless `memory` is an earlier `Decoded.draft`.

    Source: Zhao et al., "Ouroboros: Generating Longer Drafts Phrase by Phrase for Faster Speculative
    Decoding", https://arxiv.org/abs/2402.13720.

    Args:
      smaller: a `Model` of the same vocabulary, for example `first_layers`.
      size: tokens that the smaller model drafts.
      count: phrases that lengthen a draft.
      phrase: tokens of a phrase after its first.
      window, tried, capacity: of `lookahead`; it tries `tried` phrases in a pass of the smaller model.
    """
    check(count, size, capacity)
    drafting = lookahead(window, tried, phrase, capacity)
    writer = Writer(smaller.module, smaller.config, smaller.params, size, drafting)

    def init(memory: Ahead | None, text: jax.Array, length: jax.Array) -> Ahead:
        return writer.begun(None if memory is None else memory.own.draft, text, length)

    def propose(state: Ahead, text: jax.Array, length: jax.Array) -> tuple[jax.Array, Ahead]:
        written, state = writer.continued(state, text, length)
        longer = newest(state.own.draft.phrases, written[:, -1], count)
        return jnp.concatenate([written, longer.reshape(len(text), -1)], axis=1), state

    def learn(state: Ahead, seen: Round) -> Ahead:
        state, looking = writer.noted(state, seen), state.own.draft
        goes_on = state.goes_on[:, None, None]
        reused = jnp.where(goes_on, _runs(seen, size, phrase), -1)
        old, better = (jnp.where(goes_on, part, -1) for part in _corrected(seen, size))
        new = jnp.concatenate([reused, better], axis=1).reshape(-1, phrase + 1)
        phrases = appended(looking.phrases, new, gone=old.reshape(-1, phrase + 1))
        return state._replace(own=state.own._replace(draft=looking._replace(phrases=phrases)))

    return Draft(_tree(size, count, phrase), init, propose, learn)


def _tree(size: int, count: int, phrase: int) -> Tree:
    """A chain of `size` tokens, and `count` phrases that go on from its end."""
    ends = branches(count, phrase)
    sees = np.pad(ends.sees, ((size, 0), (size, 0)))
    sees[size:, :size] = True
    sees[:size, :size] = np.tri(size, dtype=bool)
    chain = np.broadcast_to(np.arange(size), (count, size))
    return Tree(sees, np.concatenate([chain, size + ends.paths], axis=1), np.ones(len(sees), bool))


def _corrected(seen: Round, size: int) -> tuple[jax.Array, jax.Array]:
    """`(B, count, 1 + phrase)`, the phrases behind the draft, and the model's choices in their place."""
    old, choices = seen.drafts[..., size - 1 :], seen.after[..., size:-1]
    is_whole = jnp.cumprod(old >= 0, axis=2) > 0  # up to here
    choices = jnp.where(is_whole[..., :-1], choices, -1)
    better = jnp.concatenate([old[..., :1], choices], axis=2)
    is_used = is_whole[..., 1:2]
    return jnp.where(is_used, old, -1), jnp.where(is_used, better, -1)


def _runs(seen: Round, size: int, phrase: int) -> jax.Array:
    """`(B, size, 1 + phrase)`, runs behind the first rejected token that equal the model's choices there.

    A run follows the drafted token before it. It stands at its first place; other places hold -1.
    """
    written, answers = seen.nodes[:, :size], seen.answers[:, :size]
    agrees = (written == answers) & (written >= 0)
    is_run = agrees & (jnp.cumsum(~agrees, axis=1) > 0)
    places = np.arange(size)[:, None] + np.arange(phrase)
    tokens, goes_on = (_beyond(part, phrase)[:, places] for part in (written, is_run))
    run = jnp.where(jnp.cumprod(goes_on, axis=2), tokens, -1)
    before = jnp.pad(written, ((0, 0), (1, 0)))[:, :size, None]  # of the first token no run begins
    is_first = is_run & ~jnp.pad(is_run, ((0, 0), (1, 0)))[:, :size]
    return jnp.where(is_first[..., None], jnp.concatenate([before, run], axis=2), -1)


def _beyond(x: jax.Array, count: int) -> jax.Array:
    return jnp.pad(x, ((0, 0), (0, count)))
