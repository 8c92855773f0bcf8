"""Prompt lookup."""

import jax
import jax.numpy as jnp
import numpy as np

from zojax._checks import require_count
from zojax.lm.drafts._matching import best, shared, taken
from zojax.lm.models.drafting import Draft, branches, stateless


def lookup(size: int = 8) -> Draft:
    """Prompt lookup: the tokens after the latest earlier place with the same last 3, 2 or 1 tokens.

    A place with more equal tokens wins. A candidate that reaches the end of the text goes on periodically.

    Source: A. Saxena, "Prompt Lookup Decoding", 2023.

    Args:
      size: tokens of the candidate.

    >>> propose = lookup(size=4).propose
    >>> propose(None, jnp.array([[7, 1, 2, 5, 6, 1, 2, 0, 0]]), jnp.array([7]))[0].tolist()
    [[5, 6, 1, 2]]
    """
    require_count("size", size)

    def propose(text: jax.Array, length: jax.Array) -> jax.Array:
        before = np.arange(text.shape[1]) < length[:, None] - 1
        place, found = best(jnp.where(before, shared(text, text, length), 0))
        period = jnp.maximum(length - 1 - place, 1)
        ahead = place[:, None] + 1 + np.arange(size) % period[:, None]
        return jnp.where(found[:, None], taken(text, ahead), -1)

    return stateless(branches(1, size), propose)
