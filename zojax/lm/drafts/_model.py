"""A smaller model as a draft."""

import jax

from zojax._checks import require_count
from zojax.lm._model import Model
from zojax.lm.drafts._writer import Ahead, Writer
from zojax.lm.models.drafting import Draft, branches, none


def model(smaller: Model, size: int = 4, draft: Draft | None = None) -> Draft:
    """The most likely next tokens of a smaller model with the same vocabulary, on a cache of its own.

    Give its parameters as an argument of your jitted function, or they become constants of the program. See
    `first_layers` for a smaller model that needs no download.

    Args:
      smaller: a `Model`.
      size: tokens of the candidate.
      draft: of the smaller model, which costs it a forward pass a token without one.
    """
    require_count("size", size)
    drafting = none() if draft is None else draft
    writer = Writer(smaller.module, smaller.config, smaller.params, size, drafting)

    def init(memory: Ahead | None, text: jax.Array, length: jax.Array) -> Ahead:
        return writer.begun(None if memory is None else memory.own.draft, text, length)

    return Draft(branches(1, size), init, writer.continued, writer.noted)
