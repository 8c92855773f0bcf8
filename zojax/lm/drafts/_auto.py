"""Drafting only where it pays."""

import math
import statistics
import time
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from zojax._checks import require_count
from zojax.lm._model import Model
from zojax.lm.models import rounds
from zojax.lm.models.decoding import most_likely
from zojax.lm.models.drafting import Draft, Round, none
from zojax.lm.models.rounds import total

MEMORY = 4  # rounds of the running mean


class Paid(NamedTuple):
    """The state of `auto`.

    Attributes:
      rate: float32, tokens a row and forward pass with the draft, a running mean.
      rested: int32, rounds since the last draft.
      inner: the state of the draft.
    """

    rate: jax.Array
    rested: jax.Array
    inner: Any


def auto(draft: Draft, cost: float, retry: int = 32) -> Draft:
    """A draft that rests while it does not pay: while it yields fewer tokens a forward pass than its cost.

    The tokens are a running mean over the rows, and over the members under `vmap`. After `retry` rounds it
    tries again. The text is the same either way.

    Args:
      draft: any other draft.
      cost: time of a round with the draft over that of a round without, see `cost`.
      retry: rounds without the draft before the next trial.

    >>> from zojax.lm import drafts
    >>> careful = drafts.auto(drafts.lookup(), cost=1.8)

    Raises:
      ValueError: unless `cost` is positive and finite, and `retry` positive.
    """
    if not 0 < cost < math.inf:
        raise ValueError(f"cost must be positive and finite, got {cost!r}.")
    require_count("retry", retry)
    if draft.pays is not None:
        raise ValueError("auto needs a draft that always drafts, got one that rests; give its own.")
    size = len(draft.tree.asked)

    def init(memory: Paid | None, text: jax.Array, length: jax.Array) -> Paid:
        inner = draft.init(None if memory is None else memory.inner, text, length)
        rate = jnp.float32(1.5 * cost) if memory is None else memory.rate
        return Paid(rate, jnp.zeros((), jnp.int32), inner)

    def propose(state: Paid, text: jax.Array, length: jax.Array) -> tuple[jax.Array, Paid]:
        tokens, inner = draft.propose(state.inner, text, length)
        return tokens, state._replace(inner=inner)

    def learn(state: Paid, seen: Round) -> Paid:
        if seen.nodes.shape[1] == 0:
            nothing = jnp.full((len(seen.text), size), -1, jnp.int32)
            answers = jnp.concatenate([seen.answers, nothing], axis=1)
            seen = seen._replace(nodes=nothing, answers=answers, paths=draft.tree.paths)
            rested = state.rested + 1
            rate = jnp.where(rested >= retry, cost, state.rate)
        else:
            gained = total(seen.added) / jnp.maximum(total(seen.added > 0), 1)
            rate, rested = state.rate + (gained - state.rate) / MEMORY, jnp.zeros((), jnp.int32)
        return Paid(rate, rested, draft.learn(state.inner, seen))

    return Draft(draft.tree, init, propose, learn, lambda state: state.rate >= cost)


def cost(model: Model, draft: Draft, rows: int = 1, length: int = 128, repeats: int = 7) -> float:
    """Time of a round with a draft over that of a round without, on this device and outside `jit`.

    Args:
      model: with its parameters.
      draft: any draft; its candidates are random, so its verification is timed, not its luck.
      rows: prompts of a batch.
      length: tokens of a prompt.
      repeats: rounds of each kind; the median of paired ratios counts.
    """
    tokens = np.random.default_rng(0).integers(0, model.config.vocabulary, (rows, length))
    lengths, room = np.full(rows, length), draft.tree.paths.shape[1] + 1

    def run(draft, params):
        most = jnp.asarray(lengths + room)
        return rounds.Run(model.module, model.config, params, most_likely, None, draft, -1, most)

    def ready(draft):
        prompts = tokens, lengths, room, None
        start = jax.jit(lambda params: rounds.begun(run(draft, params), *prompts))
        step = jax.jit(lambda params, s: rounds.step(run(draft, params), s))
        return partial(step, params, start(params))

    params = jax.tree.map(jnp.asarray, model.params)
    sides = [ready(each) for each in (draft, none())]
    seconds = np.array([[_seconds(side) for side in sides] for _ in range(repeats + 1)][1:])
    return statistics.median((seconds[:, 0] / seconds[:, 1]).tolist())


def _seconds(call) -> float:
    begin = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - begin
