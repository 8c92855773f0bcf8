"""The text of another run."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from zojax.lm.drafts._matching import best, check_size, shared, taken
from zojax.lm.models.drafting import Draft, branches


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
    [[8, 9]]
    """
    check_size(size)
    other = jnp.asarray(tokens, jnp.int32)
    places = np.arange(other.shape[1])

    def propose(begin: Any, text: jax.Array, length: jax.Array) -> tuple[jax.Array, Any]:
        here, equal = (length - begin)[:, None], shared(other, text, length)
        place, found = best(2 * equal + (places == here - 1))
        start = jnp.where(found[:, None], place[:, None] + 1, here)
        return taken(other, start + np.arange(size)), begin

    return Draft(
        branches(1, size), lambda memory, text, length: length, propose, lambda begin, seen: begin
    )
