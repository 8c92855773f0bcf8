"""NES: projected steps along a gradient from pairs of normal directions."""

from typing import Unpack

import jax
from jax.typing import ArrayLike

from zojax import directions
from zojax._checks import require_count
from zojax._estimator import estimator
from zojax.attacks import _ball, _losses
from zojax.attacks._attack import Attack, Model
from zojax.attacks._descent import descend
from zojax.attacks._driver.run import run
from zojax.attacks._result import Result
from zojax.attacks._shared import SharedOptions, documented, reused


@documented
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
    **options: Unpack[SharedOptions],
) -> Result:
    r"""Projected gradient descent on a gradient estimated by natural evolution strategies.

    .. math::
        g = \frac{1}{2 N \mu} \sum_{i=1}^{N} (L(x + \mu z_i) - L(x - \mu z_i))\, z_i,
        \quad z_i \sim N(0, I), \qquad
        x \leftarrow \Pi(x - \eta\,\epsilon\,\mathrm{sign}(g))

    For L2, g / |g| replaces the sign. L is the log-odds of the true class. It has the level sets of the
    paper's cross-entropy, and a slope where the model is certain. The points are projected too, so that
    each query may succeed.

    Args:
      x: images (batch, ...) in [0, 1], of any shape.
      num_directions: N; a round is 2 N queries.
      mu: smoothing radius, in units of the image.
      learning_rate: eta, in units of eps; 0.2 is the paper's 0.01 at eps = 0.05.

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
    return run(key, attack, model, x, y, eps, budget, targeted, **options)


@reused(num_directions=require_count)
def nes_attack(
    norm: str = "linf", num_directions: int = 50, mu: float = 0.01, learning_rate: float = 0.2
) -> Attack:
    """The rounds of `nes`, for `run` and `ask_tell`."""
    source = estimator(directions.normal(), mu=mu, num_directions=num_directions)

    def step(image, grads, state):
        return learning_rate * _ball.steepest(grads, norm), state

    return descend(norm, _losses.log_odds, lambda x: source, source.evaluations, step)
