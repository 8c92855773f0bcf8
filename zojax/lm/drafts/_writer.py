"""A smaller model that writes ahead of a text, on a cache of its own."""

from types import ModuleType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from zojax.lm.drafts._matching import taken
from zojax.lm.models import rounds
from zojax.lm.models.decoding import most_likely
from zojax.lm.models.drafting import Draft, Round

CATCH_UP = 8  # tokens of a forward pass that reads what others wrote


class Ahead(NamedTuple):
    """A smaller model's state.

    Attributes:
      own: its text, cache, forward passes `(B,)` and draft.
      goes_on: `(B,)` bools, the rows that are not finished.
    """

    own: rounds.State
    goes_on: jax.Array


class Writer(NamedTuple):
    """Writes `size` tokens ahead in each round, itself with a draft."""

    module: ModuleType
    config: Any
    params: dict
    size: int
    draft: Draft

    def begun(self, memory: Any, text: jax.Array, length: jax.Array) -> Ahead:
        """The state after one forward pass on the text; `memory` is of its draft."""
        _, own = self.module.extend(self.config, self.params, text)
        room = ((0, 0), (0, 0), (0, self.size + self.draft.tree.paths.shape[1]), (0, 0))
        cache = jax.tree.map(lambda a: jnp.pad(a, room), own)
        ones = jnp.ones(len(text), jnp.int32)
        drafted = self.draft.init(memory, text, length)
        state = rounds.State(
            self._longer(text), length + 1, cache, ones, 0 * ones, 0 * ones, drafted
        )
        return Ahead(state, ones > 0)

    def continued(
        self, ahead: Ahead, text: jax.Array, length: jax.Array
    ) -> tuple[jax.Array, Ahead]:
        """`(B, size)`, the next tokens. What it wrote and the text took stays in its cache."""
        text, own = self._longer(text), ahead.own
        common = jnp.cumprod(text == own.text, axis=1).sum(axis=1)
        known = jnp.minimum(jnp.minimum(own.length, length) - 1, common)
        own = self._caught_up(own._replace(text=text, length=length), known)
        most = length + jnp.where(ahead.goes_on, self.size, 0)
        model = self.module, self.config, self.params
        own = rounds.finished(
            rounds.Generation(*model, most_likely, None, self.draft, -1, most), own
        )
        written = taken(own.text, length[:, None] + np.arange(self.size))
        return written, ahead._replace(own=own)

    def noted(self, ahead: Ahead, seen: Round) -> Ahead:
        """The state after the other model's round."""
        return ahead._replace(goes_on=seen.added > 0)

    def _longer(self, text: jax.Array) -> jax.Array:
        return jnp.pad(text, ((0, 0), (0, self.size)), constant_values=-1)

    def _caught_up(self, own: rounds.State, known: jax.Array) -> rounds.State:
        """Reads the tokens between the `known` `(B,)` ones and the last, which the next round reads."""
        rows, steps, last = np.arange(len(known))[:, None], np.arange(CATCH_UP), own.length - 1

        def forward(carry):
            own, known = carry
            places = known[:, None] + steps
            new = jnp.maximum(taken(own.text, places), 0)
            past = dict(past=own.cache, start=known)
            _, made = self.module.extend(self.config, self.params, new, **past)
            write = lambda a, b: a.at[:, rows, places].set(b, mode="drop")  # noqa: E731
            cache = jax.tree.map(write, own.cache, made)
            own = own._replace(cache=cache, forwards=own.forwards + (known < last))
            return own, jnp.minimum(known + CATCH_UP, last)

        return jax.lax.while_loop(lambda c: rounds.total(c[1] < last) > 0, forward, (own, known))[0]
