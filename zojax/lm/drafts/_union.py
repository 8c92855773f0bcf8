"""Several drafts at once."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from zojax.lm.models.drafting import Draft, Round, joined


def union(*drafts: Draft) -> Draft:
    """The candidates of several drafts, in one forward pass.

    >>> from zojax.lm import drafts
    >>> drafts.union(drafts.text(jnp.array([[5, 6, 7]]), size=4), drafts.lookup(size=2)).tree.paths
    array([[ 0,  1,  2,  3],
           [ 4,  5,  6, -1],
           [ 7,  8, -1, -1]])

    Raises:
      ValueError: without a draft, and for one that rests.
    """
    if not drafts:
        raise ValueError("union needs a draft at least, got none.")
    if any(draft.pick is not None for draft in drafts):
        raise ValueError("union needs drafts that always draft; write auto(union(...), cost).")
    tree = joined(*(draft.tree for draft in drafts))
    ends = np.cumsum([len(draft.tree.asked) for draft in drafts])[:-1]

    def init(memory: Any, text: jax.Array, length: jax.Array) -> tuple:
        memories = memory or [None] * len(drafts)
        return tuple(d.init(m, text, length) for d, m in zip(drafts, memories, strict=True))

    def propose(state: tuple, text: jax.Array, length: jax.Array) -> tuple[jax.Array, Any]:
        made = [d.propose(s, text, length) for d, s in zip(drafts, state, strict=True)]
        tokens, states = zip(*made, strict=True)
        return jnp.concatenate(tokens, axis=1), tuple(states)

    def learn(state: tuple, seen: Round) -> tuple:
        first, parts = seen.answers[:, :1], jnp.split(seen.nodes, ends, axis=1)
        parts_said = jnp.split(seen.answers[:, 1:], ends, axis=1)
        answers = [jnp.concatenate([first, part], axis=1) for part in parts_said]
        return tuple(
            draft.learn(own, seen._replace(nodes=nodes, answers=said, paths=draft.tree.paths))
            for draft, own, nodes, said in zip(drafts, state, parts, answers, strict=True)
        )

    return Draft(tree, init, propose, learn)
