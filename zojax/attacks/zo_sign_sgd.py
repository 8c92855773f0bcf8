"""ZO-signSGD: the sign of a gradient from forward differences along few random directions."""

from typing import Unpack

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from zojax import directions, stencils
from zojax._checks import require_count
from zojax._estimator import estimator
from zojax.attacks import _losses
from zojax.attacks._attack import Attack, Model
from zojax.attacks._descent import descend
from zojax.attacks._driver.run import run
from zojax.attacks._result import Result
from zojax.attacks._shared import SharedOptions, documented, reused


@documented
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
    **options: Unpack[SharedOptions],
) -> Result:
    r"""Projected steps along the sign of a zeroth-order gradient.

    .. math::
        g = \frac{1}{N} \sum_{i=1}^{N} \frac{L(x + \mu z_i) - L(x)}{\mu} z_i, \qquad
        x \leftarrow \Pi(x - \eta\,\epsilon\,\mathrm{sign}(g))

    z is uniform on the sphere of radius sqrt(d), L the margin :math:`z_y - \max_{j \ne y} z_j`. All
    coordinates move by the same amount, which is robust to the noise of few directions. For L2 the sign
    vector is divided by its length. The points are projected too, so that each query may succeed.

    Args:
      x: images (batch, ...) in [0, 1], of any shape.
      num_directions: N; a round is N + 1 queries.
      mu: smoothing radius, in units of the image.
      learning_rate: eta, in units of eps.

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
    return run(key, attack, model, x, y, eps, budget, targeted, **options)


@reused(num_directions=require_count)
def zo_sign_sgd_attack(
    norm: str = "linf", num_directions: int = 10, mu: float = 0.01, learning_rate: float = 0.05
) -> Attack:
    """The rounds of `zo_sign_sgd`, for `run` and `ask_tell`."""
    sphere, forward = directions.sphere(), stencils.forward()
    source = estimator(sphere, forward, mu=mu, num_directions=num_directions)

    def step(image, grads, state):
        scale = 1.0 if norm == "linf" else image.size**-0.5
        return learning_rate * scale * jnp.sign(grads), state

    return descend(norm, _losses.margin, lambda x: source, source.evaluations, step)
