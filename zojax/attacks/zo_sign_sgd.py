"""ZO-signSGD: the sign of a gradient from forward differences along few random directions."""

from functools import lru_cache

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from zojax import directions, stencils
from zojax._checks import require_count, require_positive
from zojax._estimator import estimator
from zojax.attacks import _driver, _losses
from zojax.attacks._checks import check_norm
from zojax.attacks._descent import descend
from zojax.attacks._driver import Attack, Model
from zojax.attacks._result import Result


def zo_sign_sgd(
    key: int | jax.Array,
    model: Model,
    x: ArrayLike,
    y: ArrayLike,
    eps: float | jax.Array,
    norm: str = "linf",
    budget: int = 10_000,
    targeted: bool = False,
    *,
    num_directions: int = 10,
    mu: float = 0.01,
    learning_rate: float = 0.05,
    output: str = "logits",
    layout: str | None = None,
    batch_size: int | None = None,
    jit: bool = True,
) -> Result:
    r"""Projected steps along the sign of a zeroth-order gradient.

    .. math::
        g = \frac{1}{N} \sum_{i=1}^{N} \frac{L(x + \mu z_i) - L(x)}{\mu} z_i, \qquad
        x \leftarrow \Pi(x - \eta\,\epsilon\,\mathrm{sign}(g))

    with z uniform on the sphere of radius sqrt(d) and L the margin
    :math:`z_y - \max_{j \ne y} z_j`. Every coordinate moves by as much, which is robust to the noise of
    few directions; for L2 the sign vector is divided by its length. Points are projected too, so that each
    of them is an image that may succeed.

    Args:
      key: an int or a JAX key.
      model: images (n, ...) in [0, 1] -> scores (n, classes); traceable by JAX unless `jit=False`. The
        same function object compiles once.
      x: images (batch, ...) in [0, 1], of any shape.
      y: (batch,) ints, the true classes, or the targets.
      eps: radius of the ball.
      norm: "linf" or "l2".
      budget: most queries an image, the first of them for x itself; gradient estimates take
        more queries than random search, hence the larger default.
      targeted: whether y is the class to reach instead of the class to leave.
      num_directions: N; a round is N + 1 queries.
      mu: smoothing radius, in units of the image.
      learning_rate: eta, in units of eps.
      output: what the model returns: "logits" or "probabilities".
      layout: "nhwc" or "nchw", the axes of x and of what the model sees; None is "nhwc", with a warning
        where x looks like "nchw".
      batch_size: most images in one call of the model, or one round of an image; 16 on CPU and 1024
        elsewhere by default.
      jit: False calls the model on the host, with NumPy images that are not solved.

    Returns:
      A `Result`.

    Raises:
      ValueError, TypeError: for an argument that is out of range, before anything is compiled; from the
        model, for scores that are no probabilities where these were promised.
      Exception: with `jit=False` whatever the model raises, Ctrl-C too; `.partial_result` is the `Result`
        so far.

    Warns:
      UserWarning: for images that were not really attacked (`Result.unusable`, `Result.flat`).

    References:
      Liu et al., `signSGD via zeroth-order oracle <https://openreview.net/forum?id=BJe-DsC5Fm>`_, 2019.

    >>> import jax, jax.numpy as jnp
    >>> from zojax import attacks
    >>> x = jax.random.uniform(jax.random.key(1), (8, 6, 6))
    >>> w = jax.random.normal(jax.random.key(2), (36, 3))
    >>> model = lambda images: images.reshape(-1, 36) @ w
    >>> found = attacks.zo_sign_sgd(0, model, x, jnp.argmax(model(x), 1), eps=0.3)
    >>> bool(found.success.all()), bool((found.norms <= 0.3 + 1e-6).all())
    (True, True)
    """
    attack = zo_sign_sgd_attack(norm, num_directions, mu, learning_rate)
    return _driver.run(
        key, attack, model, x, y, eps, budget, targeted, output, layout, batch_size, jit
    )


def zo_sign_sgd_attack(
    norm: str = "linf", num_directions: int = 10, mu: float = 0.01, learning_rate: float = 0.05
) -> Attack:
    """The rounds of `zo_sign_sgd`, for `ask_tell`."""
    require_positive("mu", mu)
    require_positive("learning_rate", learning_rate)
    n = require_count("num_directions", num_directions)
    return _rounds(check_norm(norm), n, float(mu), float(learning_rate))


@lru_cache
def _rounds(norm: str, n: int, mu: float, learning_rate: float) -> Attack:
    source = estimator(directions.sphere(), stencils.forward(), mu=mu, num_directions=n)

    def step(image, grads, state):
        scale = 1.0 if norm == "linf" else image.size**-0.5
        return learning_rate * scale * jnp.sign(grads), state

    return descend(norm, _losses.margin, lambda x: source, source.evaluations, step)
