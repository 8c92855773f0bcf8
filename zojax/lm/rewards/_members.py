"""The texts of a population's members, in one compiled program."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from zojax._transform import ZerothOrder
from zojax.lm import drafts
from zojax.lm._adapters import combine
from zojax.lm._model import Model
from zojax.lm.models.decoding import Choice, Decoded, most_likely

SIZE = 8  # tokens of a draft


def make_write(
    model: Model, tx: ZerothOrder, new: int, choose: Choice = most_likely
) -> Callable[..., Decoded]:
    """Continues prompts with all members of the next step, side by side.

    The interpreter of `zojax.implicit` runs the decoding, so no member's parameters are in memory, and
    low-rank members share each product with the weights. Each member has its own cache of keys and values.

    Args:
      tx: gives the members. Its `batch_size` are the directions that decode at once.
      new: tokens of a text, at most.
      choose: `most_likely`, a `sampler()` or your own. All members get the same keys.

    Returns:
      `(params, state, frozen, tokens (P, T), lengths (P,), text=None, key=None) -> Decoded` with a leading
      axis of M members in each array, in the order of `tx.estimator.ask`; without the draft's state. With
      `text` `(P, new)`, the unperturbed model's continuations, members verify drafts from it and from
      their own text.

    Raises:
      ValueError: for a `tx` whose directions have arguments or keys of their own.
    """
    if tx.estimator.with_key or tx.estimator.in_axes is not None:
        raise ValueError("all members get the same prompts; leave out in_axes and with_key of tx.")

    @jax.jit
    def write(params, state, frozen, tokens, lengths, text=None, key=None):
        draft = None
        if text is not None:
            draft = drafts.union(drafts.text(text, SIZE), drafts.lookup(SIZE))

        def member(params, frozen, tokens, lengths):
            whole, options = combine(params, frozen), dict(stop=model.stop, draft=draft)
            found = model.decode(whole, tokens, lengths, new, choose=choose, key=key, **options)
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


def make_write_one(model: Model, new: int, choose: Choice = most_likely) -> Any:
    """The same with one set of parameters: `(params, frozen, tokens, lengths, key=None) -> Decoded`."""

    @jax.jit
    def write(params, frozen, tokens, lengths, key=None):
        whole = combine(params, frozen)
        options = dict(stop=model.stop, choose=choose, key=key)
        return model.decode(whole, tokens, lengths, new, **options)._replace(draft=None)

    return write
