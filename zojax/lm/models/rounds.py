"""Rounds of a generation: a draft, one forward pass that verifies it, the longest path that agrees.

Rows run at their own pace. Place p of a row's cache belongs to position p of its text. Places beyond its
length are unseen. So a rejected draft needs no rollback, and an accepted one is moved into place.

A finished row changes no more. So under `vmap` one loop serves all members, and no cache is selected.

Sources: Leviathan et al., "Fast Inference from Transformers via Speculative Decoding",
https://arxiv.org/abs/2211.17192; several drafts at once under a mask: Miao et al., "SpecInfer",
https://arxiv.org/abs/2305.09781.
"""

from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from zojax.lm.models.drafting import Draft, Round, Tree, shortened

NEAR = 1e-5  # relative difference of two logits that rounding may exchange, in float32 or better


class Generation(NamedTuple):
    """What stays during a generation; `most` `(B,)` are the lengths of the finished texts."""

    model: ModuleType
    config: Any
    params: dict
    choose: Callable[[Any, jax.Array], jax.Array]
    key: jax.Array | None
    draft: Draft
    stop: int
    most: jax.Array


class State(NamedTuple):
    """What a round changes."""

    text: jax.Array  # (B, S)
    length: jax.Array  # (B,)
    cache: Any  # keys and values of all tokens but the last, (L, B, S + K, ...)
    forwards: jax.Array  # (B,)
    positions: jax.Array  # (B,)
    near_ties: jax.Array  # (B,)
    draft: Any


@jax.custom_batching.custom_vmap
def total(x: jax.Array) -> jax.Array:
    """The sum of all entries; under `vmap`, over all members too. A loop on it is one for all members."""
    return jnp.sum(x)


@total.def_vmap
def _(size, batched, x):
    del size, batched
    return total(x), False


def begun(
    generation: Generation,
    tokens: jax.Array,
    lengths: jax.Array,
    new: int,
    memory: Any,
    shared: int = 0,
) -> State:
    """The state after the prompts' forward pass, which chooses the first token."""
    rows = np.arange(len(tokens))
    x, own = _read(generation, tokens, shared)
    first, is_near = _choices(generation, x[rows, lengths - 1 - shared][:, None], lengths[:, None])
    text = jnp.pad(tokens.astype(jnp.int32), ((0, 0), (0, new)))
    text = text.at[rows, lengths].set(first[:, 0])
    room = ((0, 0), (0, 0), (0, new + generation.draft.tree.paths.shape[1]), (0, 0))
    cache = jax.tree.map(lambda a: jnp.pad(a, room), own)
    drafted = generation.draft.init(memory, text, lengths)
    ones = jnp.ones(len(tokens), jnp.int32)
    return State(text, lengths + 1, cache, ones, 0 * ones, is_near[:, 0].astype(jnp.int32), drafted)


def _read(generation: Generation, tokens: jax.Array, shared: int) -> tuple[jax.Array, Any]:
    """The residual stream behind the `shared` first tokens of all rows; keys and values of all tokens."""
    if not shared:
        return generation.model.extend(generation.config, generation.params, tokens)
    _, past = generation.model.extend(generation.config, generation.params, tokens[:1, :shared])
    past = jax.tree.map(lambda a: jnp.repeat(a, len(tokens), axis=1), past)
    x, own = generation.model.extend(
        generation.config, generation.params, tokens[:, shared:], past=past
    )
    return x, jax.tree.map(lambda a, b: jnp.concatenate([a, b], axis=2), past, own)


def is_open(generation: Generation, state: State) -> jax.Array:
    """`(B,)`, the rows that go on."""
    last = jnp.take_along_axis(state.text, state.length[:, None] - 1, axis=1)[:, 0]
    return (last != generation.stop) & (state.length < generation.most)


def finished(generation: Generation, state: State, least: int = 0) -> State:
    """Rounds until at most `least` members have an open row; without `vmap` there is one member."""

    def goes_on(state: State) -> jax.Array:
        return total(jnp.any(is_open(generation, state), keepdims=True)) > least

    return jax.lax.while_loop(goes_on, lambda s: step(generation, s), state)


def step(generation: Generation, state: State) -> State:
    """One round, with candidates of the size that the draft picks.

    The cache is written after the branches: XLA copies what a branch changes.
    """
    draft, wide = generation.draft, generation.draft.tree.paths.shape[1] + 1
    if draft.pick is None:
        done, new = _round(generation, wide, state)
    else:
        each = [generation._replace(draft=shortened(draft, size)) for size in draft.sizes]
        branches = [partial(_round, one, wide) for one in each]
        done, new = jax.lax.switch(draft.pick(state.draft), branches, state)
    rows = np.arange(len(state.text))[:, None]
    places = state.length[:, None] - 1 + np.arange(wide)
    cache = jax.tree.map(lambda a, b: a.at[:, rows, places].set(b), state.cache, new)
    return done._replace(cache=cache)


def _round(generation: Generation, wide: int, state: State) -> tuple[State, Any]:
    """Drafts, a forward pass, the longest candidate that agrees, and one choice more.

    Returns the state without its cache, and keys and values `(L, B, wide, ...)` of the last token and the
    best candidate. Those beyond its end are arbitrary.
    """
    text, length, tree = state.text, state.length, generation.draft.tree
    rows, start = np.arange(len(text))[:, None], length[:, None] - 1
    nodes, drafted = generation.draft.propose(state.draft, text, length)
    tokens = jnp.maximum(jnp.concatenate([text[rows, start], nodes], axis=1), 0)
    x, own = generation.model.extend(
        generation.config,
        generation.params,
        tokens,
        past=state.cache,
        start=start[:, 0],
        tree=_rooted(tree),
    )
    asked = np.flatnonzero(np.append(True, tree.asked))
    said, near = _choices(generation, x[:, asked], start + _rooted(tree).sum(axis=1)[asked])
    answers, is_near = (
        jnp.full(tokens.shape, empty, a.dtype).at[:, asked].set(a)
        for a, empty in ((said, -1), (near, False))
    )
    seen = Round(text, length, length, nodes, answers, tree.paths)
    best, said, count = _verdict(generation, seen)
    goes_on, steps = is_open(generation, state), np.arange(said.shape[1])
    count = jnp.where(goes_on, jnp.minimum(count, generation.most - length), 0)
    is_added = steps < count[:, None]
    places = jnp.where(is_added, length[:, None] + steps, text.shape[1])
    text = text.at[rows, places].set(said, mode="drop")
    nodes_of = jnp.asarray(1 + np.maximum(tree.paths, 0))
    path = jnp.pad(nodes_of[best], ((0, 0), (1, wide - len(steps))))  # of the best candidate
    new = jax.tree.map(lambda a: a[:, rows, path], own)
    ties = state.near_ties + jnp.sum(
        is_near[rows, path[:, steps]] & is_added, axis=1, dtype=jnp.int32
    )
    drafted = generation.draft.learn(drafted, seen._replace(text=text, added=count))
    forwards, positions = state.forwards + goes_on, state.positions + goes_on * tokens.shape[1]
    return State(text, length + count, None, forwards, positions, ties, drafted), new


def _choices(
    generation: Generation, x: jax.Array, positions: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The tokens `(B, T)` at positions `(B, T)`, chosen from the residual stream before them.

    And whether the two largest logits are so close that rounding may exchange them.
    """
    logits = generation.model.logits(generation.config, generation.params, x)
    if generation.key is None:
        chosen = jax.vmap(jax.vmap(lambda row: generation.choose(None, row)))(logits)
    else:
        keys = jax.vmap(jax.random.fold_in, (None, 0))(generation.key, np.arange(len(x)))
        keys = jax.vmap(jax.vmap(jax.random.fold_in, (None, 0)))(keys, positions)
        chosen = jax.vmap(jax.vmap(generation.choose))(keys, logits)
    first, most = largest(logits)
    others = jnp.where(np.arange(logits.shape[-1]) == first[..., None], -jnp.inf, logits)
    rounding = max(NEAR, 4 * float(jnp.finfo(x.dtype).eps))
    is_near = most - jnp.max(others, axis=-1) <= rounding * jnp.abs(most)
    return chosen.astype(jnp.int32), is_near


def largest(logits: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The place of the largest entry, of equals the first, and the entry; along the last axis.

    XLA's `argmax` takes five times as long on CPUs.
    """
    most, last = jnp.max(logits, axis=-1), logits.shape[-1] - 1
    places = jnp.where(logits == most[..., None], np.arange(last + 1, dtype=np.int32), last)
    return jnp.min(places, axis=-1), most


def _verdict(generation: Generation, seen: Round) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The best candidate `(B,)`, the model's tokens along it `(B, K + 1)`, and how many to keep `(B,)`."""
    agreed = jnp.cumprod(seen.drafts == seen.after[..., :-1], axis=2).sum(axis=2)
    best = jnp.argmax(agreed, axis=1)
    said = jnp.take_along_axis(seen.after, best[:, None, None], axis=1)[:, 0]
    is_stop = said == generation.stop
    until = jnp.where(is_stop.any(axis=1), jnp.argmax(is_stop, axis=1), seen.paths.shape[1])
    return best, said, 1 + jnp.minimum(agreed.max(axis=1), until)


def _rooted(tree: Tree) -> np.ndarray:
    """The new tokens that each one sees, with the last token of the text in front."""
    whole = np.pad(tree.sees, ((1, 0), (1, 0)))
    whole[:, 0] = True
    return whole
