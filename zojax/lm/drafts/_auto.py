"""Drafting as far as it pays."""

import time
from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from zojax._checks import require_count
from zojax.lm._model import Model
from zojax.lm.models import rounds
from zojax.lm.models.decoding import most_likely
from zojax.lm.models.drafting import Draft, Round, none, shortened
from zojax.lm.models.rounds import total

KEPT = 0.6  # of earlier rounds' counts in each round
START = 0.8  # rate of the first round
SIZES = 0, 1, 3


class Paid(NamedTuple):
    """The state of `auto`: means over the open rows, and over the members under `vmap`.

    Attributes:
      accepted: float32, drafted tokens that were right, of the last rounds.
      refused: float32, rounds that ended at a wrong one.
      inner: the state of the draft.
    """

    accepted: jax.Array
    refused: jax.Array
    inner: Any


def auto(
    draft: Draft,
    cost: float | Sequence[float],
    sizes: Sequence[int] = SIZES,
    retry: int = 32,
) -> Draft:
    """Each round has as many tokens of the draft's candidates as pay; none where no token pays.

    With the rate r, at which drafted tokens were right in the last rounds, a candidate of k tokens yields
    `1 + r + ... + r^k` tokens. The size with most tokens for its cost is taken. Rounds without a draft
    forget the rate, so that they end. The text is the same for all sizes.

    Args:
      draft: any other draft.
      cost: time of a round with whole candidates over that of a round without a draft, see `cost`; in
        between it is linear in the number of tokens. Or a cost for each of `sizes`, and of whole ones.
      sizes: tokens of shorter candidates, ascending. A smaller model writes its whole draft in any case, so
        `(0,)` suits it.
      retry: rounds without a draft in which two thirds of the rate are forgotten.

    >>> from zojax.lm import drafts
    >>> careful = drafts.auto(drafts.lookup(), cost=1.8)
    >>> careful.sizes
    (0, 1, 3, 8)

    Raises:
      ValueError: unless the costs are positive and finite, one or one for each size; `sizes` ascend from 0
        or more; and `retry` is positive.
    """
    require_count("retry", retry)
    if draft.pick is not None:
        raise ValueError("auto needs a draft that always drafts, got one that rests; give its own.")
    sizes = _sizes(draft, sizes)
    costs = _costs(draft, cost, sizes)

    def init(memory: Paid | None, text: jax.Array, length: jax.Array) -> Paid:
        if memory is not None:
            return memory._replace(inner=draft.init(memory.inner, text, length))
        return Paid(jnp.float32(START), jnp.float32(1 - START), draft.init(None, text, length))

    def propose(state: Paid, text: jax.Array, length: jax.Array) -> tuple[jax.Array, Paid]:
        tokens, inner = draft.propose(state.inner, text, length)
        return tokens, state._replace(inner=inner)

    def learn(state: Paid, seen: Round) -> Paid:
        is_open, size = seen.added > 0, jnp.array(sizes)[pick(state)]
        rows = jnp.maximum(total(is_open), 1)
        right = total(jnp.where(is_open, seen.added - 1, 0)) / rows
        wrong = total(is_open & (seen.added <= size)) / rows
        accepted, refused = (
            jnp.where(size == 0, old + (start - old) / retry, KEPT * old + new)
            for old, new, start in (
                (state.accepted, right, START),
                (state.refused, wrong, 1 - START),
            )
        )
        return Paid(accepted, refused, draft.learn(state.inner, seen))

    def pick(state: Paid) -> jax.Array:
        rate = state.accepted / (state.accepted + state.refused)
        tokens = [total(jnp.sum(rate ** np.arange(size + 1))) for size in sizes]
        return jnp.argmax(jnp.stack(tokens) / costs)

    return Draft(draft.tree, init, propose, learn, sizes, pick)


def _sizes(draft: Draft, sizes: Sequence[int]) -> tuple[int, ...]:
    """Those that shorten the candidates, and the whole size."""
    if any(a >= b for a, b in pairwise((-1, *sizes))):
        raise ValueError(f"sizes must ascend from 0 or more, got {sizes}.")
    whole = draft.tree.paths.shape[1]
    return (*(size for size in sizes if size < whole), whole)


def _costs(draft: Draft, cost: float | Sequence[float], sizes: tuple[int, ...]) -> np.ndarray:
    """The cost of a round for each size."""
    given = np.array(cost, np.float32)
    if given.shape not in ((), (len(sizes),)) or not (np.isfinite(given) & (given > 0)).all():
        raise ValueError(
            f"cost must be positive and finite, one or {len(sizes)} for {sizes}, got {cost!r}."
        )
    tokens = np.array([len(shortened(draft, size).tree.asked) for size in sizes], np.float32)
    between = 1 + (given - 1) * tokens / np.maximum(tokens[-1], 1)
    return given if given.ndim else between


def cost(
    model: Model,
    draft: Draft,
    rows: int = 1,
    length: int = 128,
    repeats: int = 7,
    sizes: Sequence[int] = SIZES,
) -> list[float]:
    """Time of a round with a draft over that of a round without, on this device and outside `jit`.

    Args:
      model: with its parameters.
      draft: any draft; its candidates are random, so its verification is timed, not its luck.
      rows: prompts of a batch.
      length: tokens of a prompt.
      repeats: rounds of each kind; the median of paired ratios counts.
      sizes: as for `auto`.

    Returns:
      For each of the sizes, and for whole candidates.
    """
    tokens = np.random.default_rng(0).integers(0, model.config.vocabulary, (rows, length))
    lengths, room = np.full(rows, length), draft.tree.paths.shape[1] + 1

    def generation(draft, params):
        most = jnp.asarray(lengths + room)
        return rounds.Generation(
            model.module, model.config, params, most_likely, None, draft, -1, most
        )

    def ready(draft):
        prompts = tokens, lengths, room, None
        start = jax.jit(lambda params: rounds.begun(generation(draft, params), *prompts))
        step = jax.jit(lambda params, s: rounds.step(generation(draft, params), s))
        return partial(step, params, start(params))

    params = jax.tree.map(jnp.asarray, model.params)
    sides = [ready(each) for each in (none(), *(shortened(draft, s) for s in _sizes(draft, sizes)))]
    seconds = np.array([[_seconds(side) for side in sides] for _ in range(repeats + 1)][1:])
    return np.median(seconds[:, 1:] / seconds[:, :1], axis=0).tolist()


def _seconds(call) -> float:
    begin = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - begin
