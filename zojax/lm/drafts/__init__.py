"""Drafts of the next tokens, which `zojax.lm.generate` verifies in one forward pass.

A draft proposes candidates of K tokens for each row in each round; shapes are fixed, so all run inside
`jit`. -1 stands for no token. A wrong candidate costs time and never changes the text.

- `lookup`: what followed the last tokens earlier in the same text.
- `text`: another run's texts, for example the unperturbed model's for all members of a population.
- `pool`: phrases of all texts so far, by their first token.
- `model`: a smaller model, for example the `first_layers` of the model itself.
- `lookahead`: phrases that the model makes for itself, by Jacobi's iteration.
- `ouroboros`: a smaller model that drafts by `lookahead`, lengthened with phrases of the pool.
- `union`: the candidates of several.
- `auto`: any of them, as long as it pays; `cost` measures its price. `shortened` cuts candidates.

>>> import jax, jax.numpy as jnp
>>> from zojax import lm
>>> config = lm.llama.Config(vocabulary=16, width=8, layers=1, heads=2, kv_heads=1, hidden=8)
>>> model = lm.Model(lm.llama, config, lm.llama.init(jax.random.key(0), config))
>>> tokens, lengths = jnp.array([[1, 2, 3], [4, 5, 0]]), jnp.array([3, 2])
>>> plain = model.generate(model.params, tokens, lengths, 20)
>>> drafted = model.generate(model.params, tokens, lengths, 20, draft=lm.drafts.lookup())
>>> bool((plain == drafted).all())
True
"""

from zojax.lm.drafts._auto import auto as auto
from zojax.lm.drafts._auto import cost as cost
from zojax.lm.drafts._first_layers import first_layers as first_layers
from zojax.lm.drafts._lookahead import lookahead as lookahead
from zojax.lm.drafts._lookup import lookup as lookup
from zojax.lm.drafts._model import model as model
from zojax.lm.drafts._ouroboros import ouroboros as ouroboros
from zojax.lm.drafts._pool import pool as pool
from zojax.lm.drafts._text import text as text
from zojax.lm.drafts._union import union as union
from zojax.lm.models.drafting import Draft as Draft
from zojax.lm.models.drafting import Round as Round
from zojax.lm.models.drafting import Tree as Tree
from zojax.lm.models.drafting import branches as branches
from zojax.lm.models.drafting import none as none
from zojax.lm.models.drafting import shortened as shortened

__all__ = [name for name in dir() if not name.startswith("_")]
