"""Generation inside `jit`: prompts in one pass, then a forward pass a round on cached keys and values.

A round's forward pass reads the last token and drafts of the next ones, see `zojax.lm.drafts`. Each row
keeps its longest draft that agrees with the model's own choices, and one choice more. The text is that of
decoding token by token; a good draft saves forward passes. Without a draft a round is one token.
"""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from types import ModuleType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from zojax._checks import require_count
from zojax.lm.models import rounds
from zojax.lm.models.drafting import Draft, none
from zojax.lm.models.layers import too_long

__all__ = ["Choice", "Decoded", "decode", "decode_members", "generate", "most_likely", "sampler"]

Choice = Callable[[Any, jax.Array], jax.Array]  # (key, logits (V,)) -> a token


def most_likely(key: Any, logits: jax.Array) -> jax.Array:
    """The token of the largest logit; of equals, the first. `key` is unused."""
    del key
    return rounds.largest(logits)[0]


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
    if top_k is not None:
        require_count("top_k", top_k)
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
      positions: `(B,)` int32, tokens that these passes read, drafts included; without the prompts.
      near_ties: `(B,)` int32, tokens whose two largest logits are equal up to rounding. A greedy text with
        none of them depends on no draft, batch or program.
      draft: the draft's last state, for a later call.
    """

    tokens: jax.Array
    lengths: jax.Array
    forwards: jax.Array
    positions: jax.Array
    near_ties: jax.Array
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
    shared: int = 0,
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
      shared: so many first tokens, fewer than `lengths`, are those of the first prompt in all of them. They
        are read once.

    Raises:
      ValueError: if `new` is below 1, `shared` is not from 0 to T - 1, or the model has fewer
        positions than the text may take.
    """
    generation, tokens, lengths = _prepared(
        model, config, tokens, lengths, new, stop, choose, key, draft
    )
    state = _begun(generation, tokens, lengths, new, memory, shared, params)
    return _outcome(
        generation, lengths, new, rounds.finished(generation._replace(params=params), state)
    )


def decode_members(
    model: ModuleType,
    config: Any,
    evaluate: Callable[..., Any],
    members: int,
    tokens: ArrayLike,
    lengths: ArrayLike,
    new: int,
    *,
    stay: Sequence[int] = (),
    stop: int | None = None,
    choose: Choice = most_likely,
    key: jax.Array | None = None,
    draft: Draft | None = None,
    memory: Any = None,
    shared: int = 0,
) -> Decoded:
    """The same prompts with each member of a population, side by side; finished members leave.

    A draft makes some members end early. With `stay=(4, 2)`, at most 4 members stay once no more are open,
    then at most 2. Each number is a program of its own, with its own time to compile.

    Args:
      evaluate: `(fun, i, *arrays) -> fun(params of member i, *arrays)`, such as `zojax.implicit.evaluate`
        with a direction.
      members: how many.
      stay: falling numbers of members.
      others: as for `decode`.

    Returns:
      A `Decoded` with a leading axis of members, without the draft's state.

    Raises:
      ValueError: as for `decode`, or unless `stay` falls from below `members` to 1 or more.

    >>> import zojax
    >>> from zojax import lm
    >>> config = lm.llama.Config(vocabulary=16, width=8, layers=1, heads=2, kv_heads=1, hidden=8)
    >>> params, signs = lm.llama.init(jax.random.key(0), config), zojax.directions.low_rank()
    >>> frame = signs.frame(jax.random.key(1), 4, params)
    >>> def evaluate(fun, i, *arrays):
    ...     return zojax.implicit.evaluate(fun, params, signs.draw(frame, i, params), 0.1, *arrays)
    >>> prompt = jnp.array([[1, 2, 3]]), jnp.array([3])
    >>> lm.decode_members(lm.llama, config, evaluate, 4, *prompt, 5, stay=(2,)).tokens.shape
    (4, 1, 5)
    """
    require_count("members", members)
    if any(a <= b for a, b in pairwise((members, *stay, 0))):
        raise ValueError(f"stay must fall from below members, {members}, to 1 or more, got {stay}.")
    generation, tokens, lengths = _prepared(
        model, config, tokens, lengths, new, stop, choose, key, draft
    )

    def begin(i: jax.Array) -> rounds.State:
        return evaluate(partial(_begun, generation, tokens, lengths, new, memory, shared), i)

    def go_on(least: int, i: jax.Array, state: rounds.State) -> rounds.State:
        def finished(params: dict, state: rounds.State) -> rounds.State:
            return rounds.finished(generation._replace(params=params), state, least)

        return evaluate(finished, i, state)

    outcome = jax.vmap(partial(_outcome, generation, lengths, new))
    which = jnp.arange(members)
    state = jax.vmap(begin)(which)
    found = outcome(state)._replace(draft=None)
    for least in (*stay, 0):
        state = jax.vmap(partial(go_on, least))(which, state)
        latest = outcome(state)._replace(draft=None)
        found = jax.tree.map(lambda a, b, which=which: a.at[which].set(b), found, latest)
        is_open = jax.vmap(partial(rounds.is_open, generation))(state).any(axis=1)
        still = jnp.argsort(~is_open)[:least]
        which, state = jax.tree.map(lambda a, still=still: a[still], (which, state))
    return found


def _prepared(
    model, config, tokens, lengths, new, stop, choose, key, draft
) -> tuple[rounds.Generation, jax.Array, jax.Array]:
    """A generation without parameters; prompts and their lengths as arrays."""
    require_count("new", new)
    tokens, lengths = jnp.asarray(tokens), jnp.asarray(lengths)
    draft, stop = none() if draft is None else draft, -1 if stop is None else stop
    generation = rounds.Generation(model, config, {}, choose, key, draft, stop, lengths + new)
    return generation, tokens, lengths


def _begun(generation, tokens, lengths, new, memory, shared, params: dict) -> rounds.State:
    _check(generation.model, generation.config, params, tokens.shape[1], new)
    if not 0 <= shared < tokens.shape[1]:
        raise ValueError(f"shared must be from 0 to {tokens.shape[1] - 1}, got {shared}.")
    return rounds.begun(generation._replace(params=params), tokens, lengths, new, memory, shared)


def _outcome(
    generation: rounds.Generation, lengths: jax.Array, new: int, end: rounds.State
) -> Decoded:
    steps = np.arange(new)
    written = jnp.take_along_axis(end.text, lengths[:, None] + steps, axis=1)
    written = jnp.where(steps < (end.length - lengths)[:, None], written, generation.stop)
    cost = end.forwards, end.positions, end.near_ties
    return Decoded(written, end.length - lengths, *cost, end.draft)


def _check(model: ModuleType, config: Any, params: dict, places: int, new: int) -> None:
    if not hasattr(model, "extend"):
        raise ValueError(f"models of {model.__name__} do not generate; give one of llama or gpt.")
    prefix = params["layers"]["prefix_key"].shape[1] if "prefix_key" in params["layers"] else 0
    most, wanted = model.limit(config), prefix + places + new
    if most is not None and wanted > most:
        raise too_long(most, wanted)
