"""NES: a gradient estimated from normal directions in pairs, then projected steps."""

from functools import lru_cache

import jax
from jax.typing import ArrayLike

from zojax import directions
from zojax._checks import require_count, require_positive
from zojax._estimator import estimator
from zojax.attacks import _ball, _driver, _losses
from zojax.attacks._checks import check_norm
from zojax.attacks._descent import descend
from zojax.attacks._driver import Attack, Model
from zojax.attacks._result import Result


def nes(
    key: int | jax.Array,
    model: Model,
    x: ArrayLike,
    y: ArrayLike,
    eps: float | jax.Array,
    norm: str = "linf",
    budget: int = 10_000,
    targeted: bool = False,
    *,
    num_directions: int = 50,
    mu: float = 0.01,
    learning_rate: float = 0.2,
    output: str = "logits",
    layout: str | None = None,
    batch_size: int | None = None,
    jit: bool = True,
) -> Result:
    r"""Projected gradient descent on a gradient estimated by natural evolution strategies.

    .. math::
        g = \frac{1}{2 N \mu} \sum_{i=1}^{N} (L(x + \mu z_i) - L(x - \mu z_i))\, z_i,
        \quad z_i \sim N(0, I), \qquad
        x \leftarrow \Pi(x - \eta\,\epsilon\,\mathrm{sign}(g))

    with g / |g| instead of its sign for L2. L is the log-odds of the true class, which has the same level
    sets as the paper's cross-entropy but a slope where the model is certain. Points are projected too, so
    that each of them is an image that may succeed.

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
      num_directions: N; a round is 2 N queries.
      mu: smoothing radius, in units of the image.
      learning_rate: eta, in units of eps; 0.2 is the paper's 0.01 at eps = 0.05.
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
      Ilyas et al., `Black-box adversarial attacks with limited queries and information
      <https://arxiv.org/abs/1804.08598>`_, 2018.

    >>> import jax, jax.numpy as jnp
    >>> from zojax import attacks
    >>> x = jax.random.uniform(jax.random.key(1), (8, 6, 6))
    >>> w = jax.random.normal(jax.random.key(2), (36, 3))
    >>> model = lambda images: images.reshape(-1, 36) @ w
    >>> found = attacks.nes(0, model, x, jnp.argmax(model(x), 1), eps=0.3, num_directions=10)
    >>> bool(found.success.all()), bool((found.norms <= 0.3 + 1e-6).all())
    (True, True)
    """
    attack = nes_attack(norm, num_directions, mu, learning_rate)
    return _driver.run(
        key, attack, model, x, y, eps, budget, targeted, output, layout, batch_size, jit
    )


def nes_attack(
    norm: str = "linf", num_directions: int = 50, mu: float = 0.01, learning_rate: float = 0.2
) -> Attack:
    """The rounds of `nes`, for `ask_tell`."""
    require_positive("mu", mu)
    require_positive("learning_rate", learning_rate)
    n = require_count("num_directions", num_directions)
    return _rounds(check_norm(norm), n, float(mu), float(learning_rate))


@lru_cache
def _rounds(norm: str, n: int, mu: float, learning_rate: float) -> Attack:
    source = estimator(directions.normal(), mu=mu, num_directions=n)

    def step(image, grads, state):
        return learning_rate * _ball.steepest(grads, norm), state

    return descend(norm, _losses.log_odds, lambda x: source, source.evaluations, step)
