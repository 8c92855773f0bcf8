"""The texts of another run."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from zojax._checks import require_count
from zojax.lm.drafts._matching import best, shared
from zojax.lm.models.drafting import Draft, branches, joined


def text(tokens: ArrayLike, size: int = 12, second: int = 3) -> Draft:
    """Texts of another run: the tokens after the longest match of the last 3, 2 or 1 tokens.

    Searched are the other run's texts behind their prompts, and all rows as far as they are written. Of
    equal matches wins the same place in the other run's text, then the rest of it, then the row itself. The
    second candidate begins with another token. Give all members of a population the unperturbed model's
    texts: they mostly agree with it, and prompts of one kind have similar answers.

    Source: one draft from earlier texts, found by their longest match: Oliaro et al., "SuffixDecoding",
    https://arxiv.org/abs/2411.04975.

    Args:
      tokens: `(R, N)` integers, as from `zojax.lm.generate` on the same B prompts; negative ones stand for
        no token. Rows beyond B are any other texts, for example earlier ones.
      size: tokens of the first candidate.
      second: tokens of the second candidate; 0 for none.

    >>> draft = text(jnp.array([[5, 6, 7, 8, 9]]), size=2, second=1)
    >>> prompt, length = jnp.array([[1, 7, 0, 0, 0, 0, 0]]), jnp.array([2])
    >>> state = draft.init(None, prompt, length)
    >>> written = prompt.at[0, 2].set(7)  # the other run said 5, then 6
    >>> draft.propose(state, written, jnp.array([3]))[0].tolist()
    [[8, 9, 5]]
    """
    require_count("size", size)
    if second < 0:
        raise ValueError(f"second must be 0 at least, got {second}.")
    other = jnp.asarray(tokens, jnp.int32)

    def init(memory: None, text: jax.Array, length: jax.Array) -> jax.Array:
        """`(B, S)`, the other run's texts behind their prompts."""
        del memory
        if len(other) < len(text):
            raise ValueError(f"give a text for each of the {len(text)} prompts, got {len(other)}.")
        rows, places = np.arange(len(text))[:, None], length[:, None] + np.arange(other.shape[1])
        return _written(text, length).at[rows, places].set(other[: len(text)], mode="drop")

    def propose(
        whole: jax.Array, text: jax.Array, length: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        count, width = text.shape
        more = other[count:, :width]
        more = jnp.pad(more, ((0, 0), (0, width - more.shape[1])), constant_values=-2)
        source = jnp.concatenate([whole, _written(text, length), more])
        flat = jnp.pad(source, ((0, 0), (1, 0)), constant_values=-2).reshape(1, -1)
        ends = 1 + np.arange(len(source)) * (width + 1) + (source >= 0).sum(axis=1)
        following = jnp.roll(flat, -1)
        equal = jnp.where(following >= 0, shared(flat, text, length), 0)
        (row, place), own = np.divmod(np.arange(flat.size), width + 1), np.arange(count)[:, None]
        is_same = (row == own) & (place == length[:, None])
        nearness = 3 * (row == own) + is_same + 2 * (row == count + own)
        score = jnp.where(equal > 0, 4 * equal + nearness, is_same)

        def candidate(score: jax.Array, size: int) -> jax.Array:
            place, found = best(score)
            period = jnp.maximum(ends[place // (width + 1)] - 1 - place, 1)
            tokens = flat[0, place[:, None] + 1 + np.arange(size) % period[:, None]]
            return jnp.where(found[:, None], jnp.maximum(tokens, -1), -1)

        first = candidate(score, size)
        others = jnp.where(following == first[:, :1], 0, score)
        return jnp.concatenate([first, candidate(others, second)], axis=1), whole

    tree = joined(branches(1, size), branches(1, second))
    return Draft(tree, init, propose, lambda whole, seen: whole)


def _written(text: jax.Array, length: jax.Array) -> jax.Array:
    """The text, and -2 behind it."""
    return jnp.where(np.arange(text.shape[1]) < length[:, None], text, -2)
