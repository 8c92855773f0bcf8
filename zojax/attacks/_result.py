"""What an attack found, and the warnings that it calls for: no image passes as robust unseen."""

from typing import NamedTuple

import jax
import numpy as np

from zojax.attacks._warnings import warn

_LEAST = 10  # equal losses in a row that no working model gives


class Result(NamedTuple):
    """What an attack found; the leading axis runs over images.

    Attributes:
      adversarial: float32, as x: the adversarial image, or the best that was seen. Inside the ball and
        inside [0, 1].
      success: bool, whether it is adversarial. Where most queries are unusable, or all flat, False does
        not mean that the model is robust: outside of `jit` a UserWarning says so.
      queries: int32, images that the model answered, at most the budget. The first is x itself, so an
        image that was misclassified from the start is solved by 1.
      norms: float32, the perturbation's length in the norm of the attack.
      unusable: int32, queries whose scores were not finite, or no probabilities where these were promised.
        An image whose first 10 are unusable is given up.
      flat: int32, queries whose loss was that of x itself: hard labels, saturated or rounded scores.
    """

    adversarial: jax.Array
    success: jax.Array
    queries: jax.Array
    norms: jax.Array
    unusable: jax.Array
    flat: jax.Array


def messages(unusable, flat, queries, success) -> list[str]:
    """What to tell the user, from the fields of a `Result`; empty for a sound one."""
    unusable, flat, queries, success = map(np.asarray, (unusable, flat, queries, success))
    mute = ~success & (2 * unusable > queries)
    deaf = ~success & ~mute & (flat >= _LEAST) & (flat + unusable >= queries - 1)
    found = []
    if mute.any():
        i = np.argmax(mute)
        found.append(
            f"{mute.sum()} of {len(mute)} images were not attacked: the model gave unusable scores (not "
            f"finite, or no probabilities), such as {unusable[i]} of {queries[i]} for image {i}. Check "
            "the model and output=; see Result.unusable."
        )
    if deaf.any():
        i = np.argmax(deaf)
        found.append(
            f"{deaf.sum()} of {len(deaf)} images were not attacked: their loss never changed, such as in "
            f"{queries[i]} queries for image {i}. Hard labels need attacks.smoothed, rounded or saturated "
            "probabilities need logits, a tiny eps needs a larger one; see Result.flat."
        )
    return found


def warned(result: Result) -> Result:
    """The same result, after the warnings that it calls for; none where it is traced."""
    fields = result.unusable, result.flat, result.queries, result.success
    if not any(isinstance(field, jax.core.Tracer) for field in fields):
        for message in messages(*fields):
            warn(message)
    return result
