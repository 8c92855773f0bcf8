"""The options of an attack, and the state of an image under attack."""

from typing import NamedTuple

import jax
import numpy as np

from zojax._trees import PyTree

PATIENCE = 10  # unusable answers (on the host: calls) from the first on, before giving up


class Options(NamedTuple):
    """Checked arguments that all attacks share. Compiled programs serve any budget, targeted or not."""

    budget: np.int32 | jax.Array
    targeted: np.bool_ | jax.Array
    output: str
    layout: str | None


class ImageState(NamedTuple):
    """One image under attack; the driver maps over a batch of them.

    Attributes:
      key: the image's own key.
      x, y: the image and its class.
      t: rounds so far.
      queries, unusable, flat: counts, as in `Result`.
      solved: whether `best` is adversarial.
      best, best_loss: the best image so far and its loss.
      first_loss: the loss of x.
      inner: the attack's own state.
    """

    key: jax.Array
    x: jax.Array
    y: jax.Array
    t: jax.Array
    queries: jax.Array
    solved: jax.Array
    best: jax.Array
    best_loss: jax.Array
    first_loss: jax.Array
    unusable: jax.Array
    flat: jax.Array
    inner: PyTree
