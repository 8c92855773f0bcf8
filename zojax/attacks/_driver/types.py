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

    `queries`, `unusable` and `flat` are counts, as in `Result`.
    """

    key: jax.Array  # the image's own
    x: jax.Array
    y: jax.Array  # its class, or the target
    start: jax.Array | None  # the first image to try, if one is given
    t: jax.Array  # rounds so far
    queries: jax.Array
    solved: jax.Array  # whether `best` is adversarial
    best: jax.Array  # the best image so far
    best_loss: jax.Array
    first_loss: jax.Array  # of x
    unusable: jax.Array
    flat: jax.Array
    inner: PyTree  # the attack's own state
