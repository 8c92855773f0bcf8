"""The contract between a generation and a draft of its next tokens, see `zojax.lm.drafts`."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Tree(NamedTuple):
    """The drafted tokens of a row, and the candidates among them.

    Attributes:
      sees: `(N, N)` bools, which drafted tokens each one sees, itself included. All see the text.
      paths: `(C, K)` integers, the tokens of each candidate; -1 behind a shorter one.
      asked: `(N,)` bools, the tokens after which the model's choice is computed; those of paths at least.
    """

    sees: np.ndarray
    paths: np.ndarray
    asked: np.ndarray


class Round(NamedTuple):
    """One verified round, from which a draft may learn.

    Attributes:
      text: `(B, S)` int32, prompts and generated tokens, zero behind.
      length: `(B,)` int32, tokens of each text before this round.
      added: `(B,)` int32, tokens that the round appended; 0 for a finished row.
      nodes: `(B, N)` int32, the drafted tokens.
      answers: `(B, 1 + N)` int32, the model's choice after the last token, and after each drafted token;
        -1 where it was not asked.
      paths: `(C, K)` integers, as in the draft's tree.
    """

    text: jax.Array
    length: jax.Array
    added: jax.Array
    nodes: jax.Array
    answers: jax.Array
    paths: np.ndarray

    @property
    def drafts(self) -> jax.Array:
        """`(B, C, K)`, the candidates."""
        return jnp.where(self.paths < 0, -1, self.nodes[:, np.maximum(self.paths, 0)])

    @property
    def after(self) -> jax.Array:
        """`(B, C, K + 1)`, the model's choices along each candidate: after 0 to K of its tokens."""
        root = np.zeros((len(self.paths), 1), int)
        return self.answers[:, np.concatenate([root, 1 + np.maximum(self.paths, 0)], axis=1)]


class Draft(NamedTuple):
    """A source of candidates; make your own from a tree and three functions.

    Attributes:
      tree: the `Tree` of the tokens, mostly `branches(C, K)`.
      init: `(memory, text, length) -> state`. `memory` is the last state of an earlier call, or None.
      propose: `(state, text (B, S), length (B,)) -> (tokens (B, N), state)`. -1 stands for no token.
      learn: `(state, Round) -> state`.
      sizes: tokens of a candidate among which `pick` chooses in each round, see `shortened`; 0 for a round
        without a draft.
      pick: `state -> index` in `sizes`, the same for all members under `vmap`; None for whole candidates.
    """

    tree: Tree
    init: Callable[[Any, jax.Array, jax.Array], Any]
    propose: Callable[[Any, jax.Array, jax.Array], tuple[jax.Array, Any]]
    learn: Callable[[Any, Round], Any]
    sizes: tuple[int, ...] = ()
    pick: Callable[[Any], jax.Array] | None = None


def branches(count: int, size: int) -> Tree:
    """`count` candidates of `size` tokens that do not see one another.

    >>> branches(2, 2).sees.astype(int).tolist()
    [[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 1, 1]]
    """
    sees = np.kron(np.eye(count, dtype=bool), np.tri(size, dtype=bool))
    return Tree(sees, np.arange(count * size).reshape(count, size), np.ones(count * size, bool))


def stateless(tree: Tree, propose: Callable[[jax.Array, jax.Array], jax.Array]) -> Draft:
    """A draft from the text alone."""
    return Draft(
        tree,
        lambda memory, text, length: None,
        lambda state, text, length: (propose(text, length), state),
        lambda state, seen: state,
    )


def none() -> Draft:
    """No draft: one token a forward pass."""
    return stateless(branches(1, 0), lambda text, length: jnp.zeros((len(text), 0), jnp.int32))


def shortened(draft: Draft, size: int) -> Draft:
    """The draft with the first `size` tokens of each candidate; 0 for a round without a draft.

    A shorter tree keeps the tokens of these candidates alone. `learn` sees the whole tree: -1 in place of
    the others' tokens and answers.
    """
    tree = draft.tree
    if size >= tree.paths.shape[1]:
        return draft._replace(sizes=(), pick=None)
    paths, count = tree.paths[:, :size], len(tree.asked)
    kept = np.unique(paths[paths >= 0])
    renamed = np.full(count + 1, -1)  # the last is the name of -1
    renamed[kept] = np.arange(len(kept))
    cut = Tree(tree.sees[np.ix_(kept, kept)], renamed[paths], tree.asked[kept])

    def propose(state: Any, text: jax.Array, length: jax.Array) -> tuple[jax.Array, Any]:
        if not kept.size:
            return jnp.zeros((len(text), 0), jnp.int32), state
        tokens, state = draft.propose(state, text, length)
        return tokens[:, kept], state

    def whole(tokens: jax.Array) -> jax.Array:
        return jnp.full((len(tokens), count), -1, jnp.int32).at[:, kept].set(tokens)

    def learn(state: Any, seen: Round) -> Any:
        first, others = seen.answers[:, :1], seen.answers[:, 1:]
        answers = jnp.concatenate([first, whole(others)], axis=1)
        seen = seen._replace(nodes=whole(seen.nodes), answers=answers, paths=tree.paths)
        return draft.learn(state, seen)

    return draft._replace(tree=cut, propose=propose, learn=learn, sizes=(), pick=None)


def joined(*trees: Tree) -> Tree:
    """All tokens of several trees, none of which sees another's."""
    starts = np.cumsum([0, *(len(tree.asked) for tree in trees)])
    sees = np.zeros((starts[-1], starts[-1]), bool)
    for tree, start, end in zip(trees, starts, starts[1:], strict=False):
        sees[start:end, start:end] = tree.sees
    size, paths = max(tree.paths.shape[1] for tree in trees), []
    for tree, start in zip(trees, starts, strict=False):
        moved = np.where(tree.paths < 0, -1, tree.paths + start)
        paths.append(np.pad(moved, ((0, 0), (0, size - moved.shape[1])), constant_values=-1))
    asked = [tree.asked for tree in trees]
    return Tree(sees, np.concatenate(paths), np.concatenate(asked))
