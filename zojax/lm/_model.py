"""`Model`: parameters together with their architecture, tokenizer and end of text."""

from types import ModuleType
from typing import Any, NamedTuple

import jax
from jax.typing import ArrayLike

from zojax.lm.models import decoding


class Model(NamedTuple):
    """A language model.

    Attributes:
      module: `zojax.lm.llama` or `zojax.lm.gpt`.
      config: the module's `Config`.
      params: dict of arrays, as `module.forward` takes them.
      tokenizer: a `tokenizers.Tokenizer`, or None.
      stop: the token that ends a text, or None.

    >>> import jax, jax.numpy as jnp
    >>> from zojax import lm
    >>> config = lm.llama.Config(vocabulary=16, width=8, layers=1, heads=2, kv_heads=1, hidden=8)
    >>> model = lm.Model(lm.llama, config, lm.llama.init(jax.random.key(0), config))
    >>> tokens = jnp.array([[1, 2, 3]])
    >>> model.forward(model.params, tokens).shape
    (1, 3, 16)
    >>> model.generate(model.params, tokens, lengths=jnp.array([3]), new=4).shape
    (1, 4)
    """

    module: ModuleType
    config: Any
    params: dict
    tokenizer: Any = None
    stop: int | None = None

    def forward(
        self,
        params: dict,
        tokens: ArrayLike,
        *,
        positions: ArrayLike | None = None,
        rows: ArrayLike | None = None,
    ) -> jax.Array:
        """Logits of the next token, `(B, T, V)` float32; see `zojax.lm.llama.forward`."""
        return self.module.forward(self.config, params, tokens, positions=positions, rows=rows)

    def generate(
        self, params: dict, tokens: ArrayLike, lengths: ArrayLike, new: int, **options: Any
    ) -> jax.Array:
        """The next `new` tokens of each row, `(B, new)`; see `zojax.lm.decode` for the options."""
        return self.decode(params, tokens, lengths, new, **options).tokens

    def decode(
        self, params: dict, tokens: ArrayLike, lengths: ArrayLike, new: int, **options: Any
    ) -> decoding.Decoded:
        """The next tokens with their cost; see `zojax.lm.decode`."""
        return decoding.decode(self.module, self.config, params, tokens, lengths, new, **options)
