"""Drafts of the next tokens, which `zojax.lm.generate` verifies in one forward pass.

A draft proposes C candidates of K tokens for each row in each round; shapes are fixed, so all run inside
`jit`. -1 stands for no token. A wrong candidate costs time and never changes the text.

- `lookup`: what followed the last tokens earlier in the same text.
- `text`: another run's text, for example the unperturbed model's for all members of a population.
- `pool`: phrases of all texts so far, by their first token.
- `model`: a smaller model, for example the `first_layers` of the model itself.
- `union`: the candidates of several.

>>> import jax, jax.numpy as jnp
>>> from zojax import lm
>>> config = lm.llama.Config(vocabulary=16, width=8, layers=1, heads=2, kv_heads=1, hidden=8)
>>> model = lm.Model(lm.llama, config, lm.llama.init(jax.random.key(0), config))
>>> tokens, lengths = jnp.array([[1, 2, 3], [4, 5, 0]]), jnp.array([3, 2])
>>> plain = model.generate(model.params, tokens, lengths, 20)
>>> drafted = model.generate(model.params, tokens, lengths, 20, draft=lm.drafts.lookup())
>>> bool((plain == drafted).all())
True
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

if TYPE_CHECKING:
    from zojax.lm._model import Model

__all__ = [
    "Draft",
    "Round",
    "first_layers",
    "lookup",
    "model",
    "none",
    "pool",
    "text",
    "union",
]

NGRAM = 3  # the last tokens that are compared


class Round(NamedTuple):
    """One verified round, from which a draft may learn.

    Attributes:
      text: `(B, S)` int32, prompts and generated tokens, zero behind.
      length: `(B,)` int32, tokens of each text before this round.
      added: `(B,)` int32, tokens that the round appended.
      drafts: `(B, C, K)` int32, the candidates.
      answers: `(B, 1 + C * K)` int32, the model's choice after the last token, and after each candidate's
        tokens.
    """

    text: jax.Array
    length: jax.Array
    added: jax.Array
    drafts: jax.Array
    answers: jax.Array

    @property
    def after(self) -> jax.Array:
        """`(B, C, K + 1)`, the model's choices along each candidate: after 0 to K of its tokens."""
        (rows, count, _), answers = self.drafts.shape, self.answers
        first = jnp.broadcast_to(answers[:, None, :1], (rows, count, 1))
        return jnp.concatenate([first, answers[:, 1:].reshape(self.drafts.shape)], axis=2)


class Draft(NamedTuple):
    """A source of candidates; make your own from three functions.

    Attributes:
      candidates: C, of a row.
      size: K, tokens of a candidate.
      init: `(memory, text, length) -> state`. `memory` is the last state of an earlier call, or None.
      propose: `(state, text (B, S), length (B,)) -> (candidates (B, C, K), state)`.
      learn: `(state, Round) -> state`.
    """

    candidates: int
    size: int
    init: Callable[[Any, jax.Array, jax.Array], Any]
    propose: Callable[[Any, jax.Array, jax.Array], tuple[jax.Array, Any]]
    learn: Callable[[Any, Round], Any]


def _stateless(count: int, size: int, propose: Callable[..., jax.Array]) -> Draft:
    return Draft(
        count,
        size,
        lambda memory, text, length: None,
        lambda state, text, length: (propose(text, length), state),
        lambda state, seen: state,
    )


def none() -> Draft:
    """No draft: one token a forward pass."""
    return _stateless(1, 0, lambda text, length: jnp.zeros((len(text), 1, 0), jnp.int32))


def lookup(size: int = 8) -> Draft:
    """Prompt lookup: the tokens after the latest earlier place with the same last 3, 2 or 1 tokens.

    A place with more equal tokens wins. A candidate that reaches the end of the text goes on periodically.

    Source: A. Saxena, "Prompt Lookup Decoding", 2023.

    Args:
      size: tokens of the candidate.

    >>> propose = lookup(size=4).propose
    >>> propose(None, jnp.array([[7, 1, 2, 5, 6, 1, 2, 0, 0]]), jnp.array([7]))[0].tolist()
    [[[5, 6, 1, 2]]]
    """
    _check_size(size)

    def propose(text: jax.Array, length: jax.Array) -> jax.Array:
        before = np.arange(text.shape[1]) < length[:, None] - 1
        place, found = _best(jnp.where(before, _shared(text, text, length), 0))
        period = jnp.maximum(length - 1 - place, 1)
        ahead = place[:, None] + 1 + np.arange(size) % period[:, None]
        return jnp.where(found[:, None], _taken(text, ahead), -1)[:, None]

    return _stateless(1, size, propose)


def text(tokens: ArrayLike, size: int = 8) -> Draft:
    """Another run's generated text: the tokens after the place where the last 3, 2 or 1 tokens are equal.

    A place with more equal tokens wins; of equals the same place in the text, then the latest. Give all
    members of a population the unperturbed model's text; they mostly agree with it.

    Args:
      tokens: `(B, N)` integers, as from `zojax.lm.generate` on the same prompts; negative ones stand for no
        token.
      size: tokens of the candidate.

    >>> draft = text(jnp.array([[5, 6, 7, 8, 9]]), size=2)
    >>> prompt, length = jnp.array([[1, 2, 0, 0, 0, 0, 0]]), jnp.array([2])
    >>> state = draft.init(None, prompt, length)
    >>> written = prompt.at[0, 2].set(7)  # the model said 7, not 5
    >>> draft.propose(state, written, jnp.array([3]))[0].tolist()
    [[[8, 9]]]
    """
    _check_size(size)
    other = jnp.asarray(tokens, jnp.int32)
    places = np.arange(other.shape[1])

    def propose(begin: Any, text: jax.Array, length: jax.Array) -> tuple[jax.Array, Any]:
        here, shared = (length - begin)[:, None], _shared(other, text, length)
        place, found = _best(2 * shared + (places == here - 1))
        start = jnp.where(found[:, None], place[:, None] + 1, here)
        return _taken(other, start + np.arange(size))[:, None], begin

    return Draft(1, size, lambda memory, text, length: length, propose, lambda begin, seen: begin)


def pool(count: int = 8, size: int = 6, capacity: int = 2048) -> Draft:
    """A pool of phrases: the tokens after earlier uses of the last token, in all rows, newest first.

    Its state is the pool, `(capacity, 1 + size)` int32: a token and those after it. Each appended token
    begins a phrase once `size` tokens follow. The model's own choices correct rejected candidates. A
    repeated phrase moves to the end, and the oldest ones go. Give `memory` an earlier `Decoded.draft` to
    start warm.

    Source: Zhao et al., "Ouroboros: Generating Longer Drafts Phrase by Phrase for Faster Speculative
    Decoding", https://arxiv.org/abs/2402.13720.

    Args:
      count: phrases that are tried in a round.
      size: tokens of a phrase after its first.
      capacity: phrases that are kept.
    """
    _check_size(size)
    if count < 1 or capacity < count:
        raise ValueError(f"count must be from 1 to capacity, {capacity}, got {count}.")

    def init(memory: Any, text: jax.Array, length: jax.Array) -> jax.Array:
        del text, length
        return jnp.full((capacity, 1 + size), -1, jnp.int32) if memory is None else memory

    def propose(state: jax.Array, text: jax.Array, length: jax.Array) -> tuple[jax.Array, Any]:
        last = _taken(text, length[:, None] - 1)
        age, places = jax.lax.top_k((state[:, 0] == last) * np.arange(1, capacity + 1), count)
        return jnp.where(age[..., None] > 0, state[places, 1:], -1), state

    def learn(state: jax.Array, seen: Round) -> jax.Array:
        ends = seen.length[:, None] + np.arange(size + 1)  # of phrases that are complete now
        phrases = _taken(seen.text, ends[..., None] - np.arange(size, -1, -1))
        complete = (np.arange(size + 1) < seen.added[:, None]) & (ends >= size)
        phrases = jnp.where(complete[..., None], phrases, -1)
        last = _taken(seen.text, seen.length[:, None, None] - 1)
        last = jnp.broadcast_to(last, seen.drafts[..., :1].shape)
        corrected = jnp.concatenate([last, seen.after[..., :size]], axis=2)
        is_used = (seen.drafts[..., :1] >= 0) & (seen.added[:, None, None] > 0)
        corrected = jnp.where(is_used, corrected, -1)
        return _appended(state, jnp.concatenate([corrected, phrases], axis=1).reshape(-1, size + 1))

    return Draft(count, size, init, propose, learn)


def model(smaller: "Model", size: int = 4) -> Draft:
    """The most likely next tokens of a smaller model with the same vocabulary, on a cache of its own.

    Give its parameters as an argument of your jitted function, or they become constants of the program. See
    `first_layers` for a smaller model that needs no download.

    Args:
      smaller: a `Model`.
      size: tokens of the candidate; each costs a forward pass of the smaller model.
    """
    _check_size(size)
    module, config, params, *_ = smaller

    def extended(cache: Any, tokens: jax.Array, start: jax.Array) -> tuple[jax.Array, Any]:
        x, own = module.extend(config, params, tokens, past=cache, start=start)
        rows, steps = np.arange(len(tokens))[:, None], np.arange(tokens.shape[1])
        places = start[:, None] + steps
        return x, jax.tree.map(lambda a, b: a.at[:, rows, places].set(b), cache, own)

    def likeliest(x: jax.Array) -> jax.Array:
        return jnp.argmax(module.logits(config, params, x), axis=-1).astype(jnp.int32)

    def init(memory: Any, text: jax.Array, length: jax.Array) -> Any:
        del memory, length
        _, own = module.extend(config, params, text)
        return jax.tree.map(lambda a: jnp.pad(a, ((0, 0), (0, 0), (0, size + 1), (0, 0))), own)

    def propose(cache: Any, text: jax.Array, length: jax.Array) -> tuple[jax.Array, Any]:
        start = jnp.maximum(length - size - 1, 0)  # a round appends at most so many tokens
        recent = _taken(text, start[:, None] + np.arange(size + 1))
        x, cache = extended(cache, recent, start)
        first = likeliest(jnp.take_along_axis(x, (length - 1 - start)[:, None, None], axis=1))

        def step(carry, i):
            token, cache = carry
            x, cache = extended(cache, token, length + i)
            return (likeliest(x), cache), token[:, 0]

        (last, cache), before = jax.lax.scan(step, (first, cache), np.arange(size - 1))
        return jnp.concatenate([before.T, last], axis=1)[:, None], cache

    return Draft(1, size, init, propose, lambda cache, seen: cache)


def first_layers(whole: "Model", layers: int) -> "Model":
    """A smaller model for `model`: the first layers of a Llama- or GPT-shaped one, and its readout.

    Raises ValueError unless `layers` is from 1 to those of the model.
    """
    if not 1 <= layers <= whole.config.layers:
        raise ValueError(f"layers must be from 1 to {whole.config.layers}, got {layers}.")
    config = whole.config._replace(layers=layers)
    if len(getattr(config, "kinds", ())) > 1:
        config = config._replace(kinds=config.kinds[:layers])
    kept = {name: stack[:layers] for name, stack in whole.params["layers"].items()}
    return whole._replace(config=config, params={**whole.params, "layers": kept})


def union(*drafts: Draft) -> Draft:
    """The candidates of several drafts of one size, in one forward pass.

    >>> union(lookup(size=4), text(jnp.array([[5, 6, 7]]), size=4)).candidates
    2

    Raises:
      ValueError: without a draft, and for drafts of different sizes.
    """
    sizes = sorted({draft.size for draft in drafts})
    if len(sizes) != 1:
        raise ValueError(
            f"union needs drafts of one size, got sizes {sizes}; give them the same size."
        )

    def init(memory: Any, text: jax.Array, length: jax.Array) -> tuple:
        memories = memory or [None] * len(drafts)
        return tuple(d.init(m, text, length) for d, m in zip(drafts, memories, strict=True))

    def propose(state: tuple, text: jax.Array, length: jax.Array) -> tuple[jax.Array, Any]:
        made = [d.propose(s, text, length) for d, s in zip(drafts, state, strict=True)]
        candidates, states = zip(*made, strict=True)
        return jnp.concatenate(candidates, axis=1), tuple(states)

    def learn(state: tuple, seen: Round) -> tuple:
        return tuple(d.learn(s, seen) for d, s in zip(drafts, state, strict=True))

    return Draft(sum(draft.candidates for draft in drafts), sizes[0], init, propose, learn)


def _check_size(size: int) -> None:
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise ValueError(f"size must be a positive int, got {size!r}.")


def _taken(x: jax.Array, index: jax.Array) -> jax.Array:
    """Entries of each row of `x` `(B, N)` at `index` `(B, ...)`; -1 outside."""
    flat = index.reshape(len(x), -1)
    found = jnp.take_along_axis(x, jnp.clip(flat, 0, x.shape[1] - 1), axis=1)
    return jnp.where((flat >= 0) & (flat < x.shape[1]), found, -1).reshape(index.shape)


def _shared(source: jax.Array, text: jax.Array, length: jax.Array) -> jax.Array:
    """`(B, N)`, the number of last tokens of `text` that end at each place of `source`; 3 at most."""
    last = _taken(text, length[:, None] - 1 - np.arange(NGRAM))
    shared = jnp.zeros(source.shape, jnp.int32)
    for k in reversed(range(NGRAM)):
        earlier = jnp.pad(source, ((0, 0), (k, 0)), constant_values=-2)[:, : source.shape[1]]
        shared = (earlier == last[:, k : k + 1]) * (1 + shared)
    return shared


def _best(score: jax.Array) -> tuple[jax.Array, jax.Array]:
    """`(B,)`, the last place of the largest score; and whether one is above zero."""
    places = score.shape[1]
    return jnp.argmax(score * places + np.arange(places), axis=1), score.max(axis=1) > 0


def _appended(phrases: jax.Array, new: jax.Array) -> jax.Array:
    """The newest phrases `(M, K + 1)` after `new` `(N, K + 1)`; ones that begin with -1 are no phrases."""
    capacity, count = len(phrases), len(new)
    whole = jnp.concatenate([phrases, new])
    later = np.arange(capacity + count)[:, None] < capacity + np.arange(count)
    is_repeated = jnp.any(later & (whole[:, None] == new).all(axis=2), axis=1)
    whole = jnp.where(is_repeated[:, None], -1, whole)
    order = jnp.argsort(whole[:, 0] >= 0, stable=True)
    return whole[order][count:]
