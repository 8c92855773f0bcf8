"""The texts of a population's members, in one compiled program."""

from collections.abc import Callable
from functools import lru_cache
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp

from zojax._kept import PROGRAMS
from zojax._transform import ZerothOrder
from zojax.lm import drafts
from zojax.lm._adapters import combine
from zojax.lm._model import Model
from zojax.lm.models.decoding import Choice, Decoded, decode, most_likely


def make_write(
    model: Model, tx: ZerothOrder, new: int, choose: Choice = most_likely, shared: int = 0
) -> Callable[..., Decoded]:
    """Continues prompts with all members of the next step, side by side.

    The interpreter of `zojax.implicit` runs the decoding, so no member's parameters are in memory, and
    low-rank members share each product with the weights. Each member has its own cache of keys and values.

    Args:
      tx: gives the members. Its `batch_size` are the directions that decode at once.
      new: tokens of a text, at most.
      choose: `most_likely`, a `sampler()` or your own. All members get the same keys.
      shared: of the `Prompts`: a member reads so many first tokens once.

    Returns:
      `(params, state, frozen, tokens (P, T), lengths (P,), text=None, key=None) -> Decoded` with a leading
      axis of M members in each array, in the order of `tx.estimator.ask`; without the draft's state. With
      `text` `(P, new)`, the unperturbed model's continuations, members verify drafts from them and from
      their own texts.

    Raises:
      ValueError: for a `tx` whose directions have arguments or keys of their own.
    """
    if tx.estimator.with_key or tx.estimator.in_axes is not None:
        raise ValueError("all members get the same prompts; leave out in_axes and with_key of tx.")
    return _of_members(model.module, model.config, model.stop, tx, new, choose, shared)


def make_write_one(
    model: Model, new: int, choose: Choice = most_likely, shared: int = 0
) -> Callable[..., Decoded]:
    """The same with one set of parameters: `(params, frozen, tokens, lengths, key=None) -> Decoded`."""
    return _of_one(model.module, model.config, model.stop, new, choose, shared)


@lru_cache(PROGRAMS)
def _of_members(
    module: ModuleType,
    config: Any,
    stop: int | None,
    tx: ZerothOrder,
    new: int,
    choose: Choice,
    shared: int,
) -> Callable[..., Decoded]:
    """Compiled once for all calls of `train` with one model and optimizer."""

    @jax.jit
    def write(params, state, frozen, tokens, lengths, text=None, key=None):
        options = dict(stop=stop, choose=choose, key=key, shared=shared)
        if text is not None:  # a round appends one token more than it takes from the draft
            size = max(1, min(12, new - 2))
            options["draft"] = drafts.text(text, size, min(3, size // 2))

        def member(params, frozen, tokens, lengths):
            whole = combine(params, frozen)
            found = decode(module, config, whole, tokens, lengths, new, **options)
            return jnp.float32(0), found._replace(draft=None)

        estimate = tx.estimator.estimate(
            jax.random.fold_in(state.rng_key, state.count),
            member,
            params,
            (frozen, tokens, lengths),
            state=state.estimator_state,
            step=state.count,
            has_aux=True,
        )
        return estimate.aux  # the compiler removes the rest

    return write


@lru_cache(PROGRAMS)
def _of_one(
    module: ModuleType, config: Any, stop: int | None, new: int, choose: Choice, shared: int
) -> Callable[..., Decoded]:
    @jax.jit
    def write(params, frozen, tokens, lengths, key=None):
        whole = combine(params, frozen)
        options = dict(stop=stop, choose=choose, key=key, shared=shared)
        found = decode(module, config, whole, tokens, lengths, new, **options)
        return found._replace(draft=None)

    return write
