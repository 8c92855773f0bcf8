"""The result of an attack, and warnings of images that were not really attacked."""

from typing import NamedTuple

import jax
import numpy as np

from zojax._call import has_tracers
from zojax._warnings import warn

_LEAST = 10  # flat queries of an image, and no others, before a warning


class Result(NamedTuple):
    """The result of an attack; the leading axis runs over images.

    Attributes:
      adversarial: float32, as x: the adversarial image, or the best one seen. Inside the ball and inside
        [0, 1]. From labels: the nearest adversarial image, perhaps outside the ball, or x.
      success: bool, whether the image is adversarial. False says nothing about an image whose queries are
        mostly unusable or all flat; `problems` lists such images.
      queries: int32, images that the model answered, at most the budget. The first is x itself: an image
        that the model misclassifies from the start takes 1.
      norms: float32, the length of the perturbation in the norm of the attack.
      unusable: int32, queries with scores that were not finite, or no probabilities despite
        `output="probabilities"`. The attack gives an image up after 10 unusable answers and no usable one.
      flat: int32, queries with the same loss as x itself: hard labels, saturated or rounded scores. From
        labels: queries that were not adversarial.
    """

    adversarial: jax.Array
    success: jax.Array
    queries: jax.Array
    norms: jax.Array
    unusable: jax.Array
    flat: jax.Array

    def problems(self) -> list[str]:
        """Warnings of images that were not really attacked; empty for a sound result.

        Attacks issue these warnings, except inside `jit`.
        """
        fields = self.success, self.queries, self.unusable, self.flat
        success, queries, unusable, flat = map(np.asarray, fields)
        broken = ~success & (2 * unusable > queries)
        constant = ~success & ~broken & (flat >= _LEAST) & (flat + unusable == queries - 1)
        found = []
        if broken.any():
            i = np.argmax(broken)
            found.append(
                f"{broken.sum()} of {len(broken)} images were not attacked: the model gave unusable scores "
                f"(not finite, or no probabilities), such as {unusable[i]} of {queries[i]} for image {i}. "
                "Check the model and output=; see Result.unusable."
            )
        if constant.any():
            i = np.argmax(constant)
            found.append(
                f"{constant.sum()} of {len(constant)} images were not attacked: their loss never changed, "
                f"such as in {queries[i]} queries for image {i}. Hard labels need attacks.hop_skip_jump or "
                "attacks.smoothed (a larger radius there), attacks from labels need starts=, saturated "
                "probabilities need logits, a tiny eps needs a larger one; see Result.flat."
            )
        return found


def warned(result: Result) -> Result:
    """The result, after warnings of its problems; a traced result has no warnings."""
    if not has_tracers(result):
        for problem in result.problems():
            warn(problem)
    return result
