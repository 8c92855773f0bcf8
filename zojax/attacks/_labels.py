"""Scores from labels: the smoothed classifier, for models that tell a class and nothing else."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from zojax._checks import require_count, require_positive
from zojax._keys import as_key
from zojax.attacks._driver import checksum


def smoothed(
    label_fn: Callable[[jax.Array], jax.Array],
    num_classes: int,
    samples: int = 20,
    radius: float = 0.3,
    key: int | jax.Array = 0,
) -> Callable[[jax.Array], jax.Array]:
    r"""Probabilities for a model that gives labels only, by voting in a neighbourhood.

    .. math::
        S_c(x) = \frac{1}{m} \sum_{j=1}^{m} 1[\mathrm{label}(x + r u_j) = c],
        \qquad u_j \sim U([-1, 1]^d)

    is how robustly c is predicted around x, and goes down before the label itself changes. Half of the
    probability is kept for the label of x itself, so that success is what the model says of x. For attacks
    with `output="probabilities"`; one of their queries is then `samples + 1` of the model. Labels tell far
    less than scores: where all the neighbours vote alike there is nothing to follow. The paper's own attack
    starts from an image of the target class and shrinks the ball; this one stays in the ball.

    Args:
      label_fn: images (n, ...) -> int classes (n,); traceable by JAX unless the attack is run with
        `jit=False`, which shows it NumPy images. A label outside 0 ... num_classes - 1 votes for nothing,
        and an image that has one is never adversarial.
      num_classes: how many classes there are.
      samples: m.
      radius: r, in units of the image; noisy images are clipped to [0, 1] but not to the ball.
      key: of the noise, which differs from image to image.

    Returns:
      A model for the attacks. The same object compiles once.

    Raises:
      ValueError, TypeError: for counts or a radius that are not positive; from the model, for a `label_fn`
        that does not return one int an image.

    References:
      Ilyas et al., `Black-box adversarial attacks with limited queries and information
      <https://arxiv.org/abs/1804.08598>`_, 2018, section 2.4.

    >>> import jax, jax.numpy as jnp
    >>> from zojax import attacks
    >>> x = jax.random.uniform(jax.random.key(1), (8, 6, 6))
    >>> w = jax.random.normal(jax.random.key(2), (36, 3))
    >>> label_fn = lambda images: jnp.argmax(images.reshape(-1, 36) @ w, axis=1)
    >>> model = attacks.smoothed(label_fn, num_classes=3, radius=0.5)
    >>> found = attacks.bandits(0, model, x, label_fn(x), eps=0.4, budget=300, output="probabilities")
    >>> bool((label_fn(found.adversarial) != label_fn(x)).mean() > 0.5)
    True
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

    @jax.jit  # on the host, too, one program for each number of images
    def neighbourhoods(images):
        return jax.vmap(around)(images).reshape((-1,) + images.shape[1:])

    @jax.jit
    def counted(labels):
        labels = labels.reshape(-1, m + 1)
        # One vote more for the image itself than for all of its neighbours: its label stays on top.
        # Whole votes are counted, exactly in any order.
        votes = jnp.full(m + 1, 1.0).at[0].set(m + 1.0)
        ballots = jax.nn.one_hot(labels, classes, dtype=jnp.float32)
        cast = jnp.sum(votes[None, :, None] * ballots, axis=1)
        shares = cast / jnp.maximum(jnp.sum(cast, axis=1, keepdims=True), 1.0)
        known = (labels[:, :1] >= 0) & (labels[:, :1] < classes)
        return jnp.where(known, shares, jnp.nan)

    def scores(images: jax.Array) -> jax.Array:
        points = neighbourhoods(images)
        labels = jnp.asarray(
            label_fn(np.asarray(points) if isinstance(images, np.ndarray) else points)
        )
        if labels.shape != points.shape[:1] or not jnp.issubdtype(labels.dtype, jnp.integer):
            raise ValueError(
                f"label_fn must return one int for each of {len(points)} images, got {labels.dtype} of "
                f"shape {labels.shape}; a model that gives scores is attacked without attacks.smoothed."
            )
        return counted(labels)

    return scores
