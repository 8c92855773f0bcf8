"""Scores from labels: the smoothed classifier, for models that return only a class."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from zojax._checks import require_count, require_positive
from zojax._keys import as_key
from zojax.attacks._attack import Model
from zojax.attacks._driver.rounds import checksum


def smoothed(
    label_fn: Callable[[Any], Any],
    num_classes: int,
    samples: int = 20,
    radius: float = 0.3,
    key: int | jax.Array = 0,
) -> Model:
    r"""Probabilities for a model that gives labels only, by voting in a neighbourhood.

    .. math::
        S_c(x) = \frac{1}{m} \sum_{j=1}^{m} 1[\mathrm{label}(x + r u_j) = c],
        \qquad u_j \sim U([-1, 1]^d)

    measures how robustly c is predicted around x. It falls before the label of x changes. The label of x
    itself keeps half of the probability, so success means that the model's own label is wrong.

    Use it with `output="probabilities"`. One query of an attack is `samples + 1` queries of the model.
    Labels tell less than scores: where all neighbours vote alike, there is no slope. The paper's attack
    starts from an image of the target class and shrinks the ball; this one stays in the ball.
    `hop_skip_jump`, `sign_opt` and `geoda` need no scores.

    Args:
      label_fn: images (n, ...) -> int classes (n,); traceable by JAX unless the attack runs with
        `jit=False`, on NumPy images. A label outside 0 ... num_classes - 1 has no vote, and an image
        with such a label is never adversarial.
      num_classes: the number of classes.
      samples: m.
      radius: r, in units of the image. Noisy images are clipped to [0, 1] but not to the ball.
      key: of the noise, which differs between images.

    Returns:
      A model for the attacks. The same object compiles once.

    Raises:
      ValueError, TypeError: a count or the radius is not positive. The returned model raises if `label_fn`
        does not return one int per image.

    References:
      Ilyas et al., `Black-box adversarial attacks with limited queries and information
      <https://arxiv.org/abs/1804.08598>`_, 2018, section 2.4.

    >>> import jax, jax.numpy as jnp
    >>> from zojax import attacks
    >>> x = jax.random.uniform(jax.random.key(1), (8, 6, 6))
    >>> w = jax.random.normal(jax.random.key(2), (36, 3))
    >>> label_fn = lambda images: jnp.argmax(images.reshape(-1, 36) @ w, axis=1)
    >>> model = attacks.smoothed(label_fn, num_classes=3, radius=0.5)
    >>> shares = model(x)  # of 15 votes; pass the model to an attack with output="probabilities"
    >>> shares.shape, bool((jnp.argmax(shares, axis=1) == label_fn(x)).mean() > 0.5)
    ((8, 3), True)
    """
    if not callable(label_fn):
        raise TypeError(f"label_fn must be a function of a batch of images, got {label_fn!r}.")
    m, classes = require_count("samples", samples), require_count("num_classes", num_classes)
    require_positive("radius", radius)
    key = as_key(key)

    def around(x):
        own = jax.random.fold_in(key, checksum(x.astype(jnp.float32)))
        noise = jax.random.uniform(own, (m, *x.shape), x.dtype, minval=-radius, maxval=radius)
        return jnp.concatenate([x[None], jnp.clip(x[None] + noise, 0.0, 1.0)])

    @jax.jit  # on the host, one program for each number of images
    def neighbourhoods(images):
        return jax.vmap(around)(images).reshape((-1,) + images.shape[1:])

    @jax.jit
    def counted(labels):
        labels = labels.reshape(-1, m + 1)
        # The image has one vote more than all its neighbours: its label stays on top.
        # Sums of whole numbers are exact in any order.
        votes = jnp.full(m + 1, 1.0).at[0].set(m + 1.0)
        ballots = jax.nn.one_hot(labels, classes, dtype=jnp.float32)
        cast = jnp.sum(votes[None, :, None] * ballots, axis=1)
        shares = cast / jnp.maximum(jnp.sum(cast, axis=1, keepdims=True), 1.0)
        known = (labels[:, :1] >= 0) & (labels[:, :1] < classes)
        return jnp.where(known, shares, jnp.nan)

    def scores(images: Any) -> jax.Array:
        points = neighbourhoods(images)
        given = np.asarray(points) if isinstance(images, np.ndarray) else points
        labels = jnp.asarray(label_fn(given))
        if labels.shape != points.shape[:1] or not jnp.issubdtype(labels.dtype, jnp.integer):
            raise ValueError(
                f"label_fn must return one int for each of {len(points)} images, got {labels.dtype} of "
                f"shape {labels.shape}; attack a model that gives scores without attacks.smoothed."
            )
        return counted(labels)

    return scores
