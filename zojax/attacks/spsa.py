"""SPSA: Adam on a gradient from pairs of random signs."""

from typing import Unpack

import jax
import optax
from jax.typing import ArrayLike

from zojax import directions
from zojax._checks import require_count
from zojax._estimator import estimator
from zojax.attacks import _losses
from zojax.attacks._attack import Attack, Model
from zojax.attacks._descent import descend
from zojax.attacks._driver.run import run
from zojax.attacks._result import Result
from zojax.attacks._shared import SharedOptions, documented, reused


@documented
def spsa(
    key: int | jax.Array,
    model: Model,
    x: ArrayLike,
    y: ArrayLike,
    eps: float | jax.Array,
    norm: str = "linf",
    budget: int = 10_000,
    targeted: bool = False,
    *,
    num_directions: int = 64,
    mu: float = 0.01,
    learning_rate: float = 0.2,
    **options: Unpack[SharedOptions],
) -> Result:
    r"""Projected steps of Adam on a gradient of simultaneous perturbations.

    .. math::
        g = \frac{1}{N} \sum_{i=1}^{N} \frac{L(x + \mu z_i) - L(x - \mu z_i)}{2\mu} z_i,
        \quad z_i \in \{-1, 1\}^d, \qquad
        x \leftarrow \Pi(x - \epsilon\,\mathrm{Adam}(g))

    L is the margin :math:`z_y - \max_{j \ne y} z_j`. For L2, the step of Adam is divided by
    :math:`\sqrt d`. The points are projected too, so that each query may succeed. The paper takes up to
    8192 queries a step, to find what a defence hides; the default of 128 suits a budget of 10,000.

    Args:
      x: images (batch, ...) in [0, 1], of any shape.
      num_directions: N; a round is 2 N queries.
      mu: smoothing radius, in units of the image.
      learning_rate: of Adam, in units of eps; the paper's 0.01 is 0.3 of its eps = 8 / 255.

    References:
      Uesato et al., `Adversarial risk and the dangers of evaluating against weak attacks
      <https://arxiv.org/abs/1802.05666>`_, 2018.

    >>> import jax, jax.numpy as jnp
    >>> from zojax import attacks
    >>> x = jax.random.uniform(jax.random.key(1), (8, 6, 6))
    >>> w = jax.random.normal(jax.random.key(2), (36, 3))
    >>> model = lambda images: images.reshape(-1, 36) @ w
    >>> found = attacks.spsa(0, model, x, jnp.argmax(model(x), 1), eps=0.3, num_directions=10)
    >>> bool(found.success.all()), bool((found.norms <= 0.3 + 1e-6).all())
    (True, True)
    """
    attack = spsa_attack(norm, num_directions, mu, learning_rate)
    return run(key, attack, model, x, y, eps, budget, targeted, **options)


@reused(num_directions=require_count)
def spsa_attack(
    norm: str = "linf", num_directions: int = 64, mu: float = 0.01, learning_rate: float = 0.2
) -> Attack:
    """The rounds of `spsa`, for `run` and `ask_tell`."""
    source = estimator(directions.rademacher(), mu=mu, num_directions=num_directions)
    adam = optax.adam(learning_rate)

    def step(image, grads, state):
        scale = 1.0 if norm == "linf" else image.size**-0.5
        updates, state = adam.update(grads, state)
        return -scale * updates, state

    return descend(norm, _losses.margin, lambda x: source, source.evaluations, step, adam.init)
