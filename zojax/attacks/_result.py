"""The result of an attack, and its warnings: no image passes as robust because it was not attacked."""

from typing import NamedTuple

import jax
import numpy as np

from zojax._call import has_tracers
from zojax.attacks._warnings import warn

_LEAST = 10  # flat queries of an image, and no others, that call for a warning


class Result(NamedTuple):
    """What an attack found; the leading axis runs over images.

    Attributes:
      adversarial: float32, as x: the adversarial image, or the best that was seen. Inside the ball and
        inside [0, 1].
      success: bool, whether it is adversarial. False says nothing of an image of which most queries are
        unusable or all are flat: `problems` names them.
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

    def problems(self) -> list[str]:
        """Warnings of images that were not really attacked; empty for a sound result.

        Attacks issue them, except inside `jit`.
        """
        fields = self.success, self.queries, self.unusable, self.flat
        success, queries, unusable, flat = map(np.asarray, fields)
        mute = ~success & (2 * unusable > queries)
        deaf = ~success & ~mute & (flat >= _LEAST) & (flat + unusable == queries - 1)
        found = []
        if mute.any():
            i = np.argmax(mute)
            found.append(
                f"{mute.sum()} of {len(mute)} images were not attacked: the model gave unusable scores "
                f"(not finite, or no probabilities), such as {unusable[i]} of {queries[i]} for image {i}. "
                "Check the model and output=; see Result.unusable."
            )
        if deaf.any():
            i = np.argmax(deaf)
            found.append(
                f"{deaf.sum()} of {len(deaf)} images were not attacked: their loss never changed, such as "
                f"in {queries[i]} queries for image {i}. Hard labels need attacks.smoothed (or its larger "
                "radius), saturated probabilities need logits, a tiny eps needs a larger one; see "
                "Result.flat."
            )
        return found


def warned(result: Result) -> Result:
    """Warns of the result's problems, unless it is traced, and returns it."""
    if not has_tracers(result):
        for problem in result.problems():
            warn(problem)
    return result
