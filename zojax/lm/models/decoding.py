"""Generation inside `jit`: prompts in one pass, then a forward pass a round on cached keys and values.

A round's forward pass reads the last token and drafts of the next ones, see `zojax.lm.drafts`. Each row
keeps its longest draft that agrees with the model's own choices, and one choice more. The text is that of
decoding token by token; a good draft saves forward passes. Without a draft a round is one token.

Rows run at their own pace. Place p of a row's cache belongs to position p of its text. Places beyond its
length are unseen. So a rejected draft needs no rollback.

Sources: Leviathan et al., "Fast Inference from Transformers via Speculative Decoding",
https://arxiv.org/abs/2211.17192; several drafts at once under a mask: Miao et al., "SpecInfer",
https://arxiv.org/abs/2305.09781.
"""

from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from zojax.lm.drafts import Draft, Round, none

__all__ = ["Choice", "Decoded", "decode", "generate", "most_likely", "sampler"]

Choice = Callable[[Any, jax.Array], jax.Array]  # (key, logits (V,)) -> a token


def most_likely(key: Any, logits: jax.Array) -> jax.Array:
    """The token of the largest logit; of equals, the first. `key` is unused."""
    del key
    return jnp.argmax(logits)


def sampler(temperature: float = 1.0, top_k: int | None = None, top_p: float = 1.0) -> Choice:
    """Draws a token from the softmax of `logits / temperature`, restricted to likely tokens.

    Args:
      temperature: positive; below 1 for likelier tokens.
      top_k: draws among so many likeliest tokens; None for all.
      top_p: draws among the fewest likeliest tokens whose probabilities reach this sum (nucleus sampling,
        https://arxiv.org/abs/1904.09751).

    Raises:
      ValueError: for a value out of range.

    >>> choose = sampler(temperature=0.7, top_k=2)
    >>> keys, logits = jax.random.split(jax.random.key(0), 20), jnp.array([3.0, 1.0, 2.9])
    >>> set(jax.vmap(choose, (0, None))(keys, logits).tolist())
    {0, 2}
    """
    if not temperature > 0 or not np.isfinite(temperature):
        raise ValueError(f"temperature must be positive and finite, got {temperature!r}.")
    if top_k is not None and top_k < 1:
        raise ValueError(f"top_k must be 1 at least, got {top_k}.")
    if not 0 < top_p <= 1:
        raise ValueError(f"top_p must be above 0 and at most 1, got {top_p!r}.")

    def choose(key: Any, logits: jax.Array) -> jax.Array:
        if key is None:
            raise ValueError("sampling needs a key; give generate key=jax.random.key(0).")
        logits = logits / temperature
        if top_k is not None or top_p < 1:
            kept = min(top_k or logits.size, logits.size)
            ranked, tokens = jax.lax.top_k(logits, kept)
            chances = jax.nn.softmax(ranked)
            ranked = jnp.where(jnp.cumsum(chances) - chances < top_p, ranked, -jnp.inf)
            return tokens[jax.random.categorical(key, ranked)]
        return jax.random.categorical(key, logits)

    return choose


class Decoded(NamedTuple):
    """Generated tokens, and the cost.

    Attributes:
      tokens: `(B, new)` int32; behind a row's stop, the stop again.
      lengths: `(B,)` int32, generated tokens of each row, with its stop.
      forwards: `(B,)` int32, forward passes until each row's end, that of the prompts included.
      draft: the draft's last state, for a later call.
    """

    tokens: jax.Array
    lengths: jax.Array
    forwards: jax.Array
    draft: Any


def generate(
    model: ModuleType,
    config: Any,
    params: dict,
    tokens: ArrayLike,
    lengths: ArrayLike,
    new: int,
    **options: Any,
) -> jax.Array:
    """Appends `new` tokens to each prompt, the most likely ones by default.

    Args:
      model, config, params, tokens, lengths, new, options: as for `decode`.

    Returns:
      `(B, new)` int32.
    """
    return decode(model, config, params, tokens, lengths, new, **options).tokens


def decode(
    model: ModuleType,
    config: Any,
    params: dict,
    tokens: ArrayLike,
    lengths: ArrayLike,
    new: int,
    *,
    stop: int | None = None,
    choose: Choice = most_likely,
    key: jax.Array | None = None,
    draft: Draft | None = None,
    memory: Any = None,
) -> Decoded:
    """Appends `new` tokens to each prompt.

    The tokens do not depend on `draft`, up to rounding where two logits are nearly equal. The choice at a
    position has a key of its own, so this holds for samples, too.

    Args:
      model: `zojax.lm.llama` or `zojax.lm.gpt`.
      params: as for `model.forward`.
      tokens: `(B, T)` integers, prompts padded on the right with any id.
      lengths: `(B,)` integers from 1 to T, of the prompts.
      new: tokens to generate, a Python int.
      stop: the token that ends a text. Once all rows have it, no more forward passes follow.
      choose: `(key, logits (V,)) ->` a token; `most_likely`, a `sampler()` or your own.
      key: a JAX key, for `choose`.
      draft: a `zojax.lm.drafts.Draft`; None for one token a forward pass.
      memory: of the draft, from an earlier call; None starts anew.

    Raises:
      ValueError: if `new` is no positive int, or the model has fewer positions than the text may take.
    """
    tokens, lengths = jnp.asarray(tokens), jnp.asarray(lengths)
    _check(model, config, params, tokens.shape[1], new)
    draft = none() if draft is None else draft
    run = _Run(
        model, config, params, choose, key, draft, -1 if stop is None else stop, lengths + new
    )
    begin = _begun(run, tokens, lengths, new, memory)
    end = jax.lax.while_loop(lambda s: jnp.any(_is_open(run, s)), lambda s: _step(run, s), begin)
    steps = np.arange(new)
    written = jnp.take_along_axis(end.text, lengths[:, None] + steps, axis=1)
    written = jnp.where(steps < (end.length - lengths)[:, None], written, run.stop)
    return Decoded(written, end.length - lengths, end.forwards, end.draft)


class _Run(NamedTuple):
    """What stays during a generation; `most` `(B,)` are the lengths of the finished texts."""

    model: ModuleType
    config: Any
    params: dict
    choose: Choice
    key: jax.Array | None
    draft: Draft
    stop: int
    most: jax.Array


class _State(NamedTuple):
    text: jax.Array  # (B, S)
    length: jax.Array  # (B,)
    cache: Any  # keys and values of all tokens but the last, (L, B, S + K, ...)
    forwards: jax.Array  # (B,)
    draft: Any


def _check(model: ModuleType, config: Any, params: dict, places: int, new: int) -> None:
    if isinstance(new, bool) or not isinstance(new, int) or new < 1:
        raise ValueError(f"new must be a positive int, got {new!r}.")
    if not hasattr(model, "extend"):
        raise ValueError(f"models of {model.__name__} do not generate; give one of llama or gpt.")
    prefix = params["layers"]["prefix_key"].shape[1] if "prefix_key" in params["layers"] else 0
    most, wanted = model.limit(config), prefix + places + new
    if most is not None and wanted > most:
        raise ValueError(
            f"this model has {most} positions, the text may take {wanted}; shorten it."
        )


def _begun(run: _Run, tokens: jax.Array, lengths: jax.Array, new: int, memory: Any) -> _State:
    """The state after the prompts' forward pass, which chooses the first token."""
    rows = np.arange(len(tokens))
    x, own = run.model.extend(run.config, run.params, tokens)
    first = _choices(run, x[rows, lengths - 1][:, None], lengths[:, None])[:, 0]
    text = jnp.pad(tokens.astype(jnp.int32), ((0, 0), (0, new))).at[rows, lengths].set(first)
    room = ((0, 0), (0, 0), (0, new + run.draft.size), (0, 0))
    cache = jax.tree.map(lambda a: jnp.pad(a, room), own)
    drafted = run.draft.init(memory, text, lengths)
    return _State(text, lengths + 1, cache, jnp.ones(len(tokens), jnp.int32), drafted)


def _is_open(run: _Run, state: _State) -> jax.Array:
    """`(B,)`, the rows that go on."""
    last = jnp.take_along_axis(state.text, state.length[:, None] - 1, axis=1)[:, 0]
    return (last != run.stop) & (state.length < run.most)


def _choices(run: _Run, x: jax.Array, positions: jax.Array) -> jax.Array:
    """The tokens `(B, T)` at positions `(B, T)`, chosen from the residual stream before them."""
    logits = run.model.logits(run.config, run.params, x)
    if run.key is None:
        return jax.vmap(jax.vmap(lambda row: run.choose(None, row)))(logits).astype(jnp.int32)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(run.key, np.arange(len(x)))
    keys = jax.vmap(jax.vmap(jax.random.fold_in, (None, 0)))(keys, positions)
    return jax.vmap(jax.vmap(run.choose))(keys, logits).astype(jnp.int32)


def _step(run: _Run, state: _State) -> _State:
    """One round: drafts, a forward pass, the longest draft that agrees, and one choice more."""
    text, length, size = state.text, state.length, run.draft.size
    rows, steps, start = np.arange(len(text))[:, None], np.arange(size + 1), length[:, None] - 1
    drafts, drafted = run.draft.propose(state.draft, text, length)
    nodes = jnp.concatenate([text[rows, start], drafts.reshape(len(text), -1)], axis=1)
    tree = _tree(run.draft)
    options = dict(past=state.cache, start=start[:, 0], tree=tree)
    x, own = run.model.extend(run.config, run.params, jnp.maximum(nodes, 0), **options)
    seen = Round(text, length, length, drafts, _choices(run, x, start + tree.sum(axis=1)))
    is_open = _is_open(run, state)
    best, said, count = _verdict(run, seen)
    count = jnp.where(is_open, jnp.minimum(count, run.most - length), 0)
    places = jnp.where(steps < count[:, None], length[:, None] + steps, text.shape[1])
    text = text.at[rows, places].set(said, mode="drop")
    path = jnp.where(steps == 0, 0, best[:, None] * size + steps)  # the nodes of the best draft
    cache = jax.tree.map(
        lambda a, b: a.at[:, rows, start + steps].set(b[:, rows, path]), state.cache, own
    )
    drafted = run.draft.learn(drafted, seen._replace(text=text, added=count))
    return _State(text, length + count, cache, state.forwards + is_open, drafted)


def _verdict(run: _Run, seen: Round) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The best draft `(B,)`, the model's tokens along it `(B, K + 1)`, and how many to keep `(B,)`."""
    agreed = jnp.cumprod(seen.drafts == seen.after[..., :-1], axis=2).sum(axis=2)
    best = jnp.argmax(agreed, axis=1)
    said = jnp.take_along_axis(seen.after, best[:, None, None], axis=1)[:, 0]
    is_stop = said == run.stop
    until = jnp.where(is_stop.any(axis=1), jnp.argmax(is_stop, axis=1), run.draft.size)
    return best, said, 1 + jnp.minimum(agreed.max(axis=1), until)


def _tree(draft: Draft) -> np.ndarray:
    """The new tokens that each one sees: the last token, and its own candidate up to itself."""
    own = np.kron(np.eye(draft.candidates, dtype=bool), np.tri(draft.size, dtype=bool))
    whole = np.pad(own, ((1, 0), (1, 0)))
    whole[:, 0] = True
    return whole
