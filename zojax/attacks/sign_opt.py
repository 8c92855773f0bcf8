"""Sign-OPT: descent of the distance over directions, by the signs of its differences."""

from typing import Unpack

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from zojax._checks import require_count
from zojax.attacks import _ball
from zojax.attacks._attack import Attack, Model
from zojax.attacks._boundary import Moves, normals, resolved, turned, walk
from zojax.attacks._driver.run import run
from zojax.attacks._result import Result
from zojax.attacks._shared import SharedOptions, documented_labels, reused


@documented_labels
def sign_opt(
    key: int | jax.Array,
    model: Model,
    x: ArrayLike,
    y: ArrayLike,
    eps: float | jax.Array = 0.0,
    norm: str = "l2",
    budget: int = 5000,
    targeted: bool = False,
    *,
    starts: ArrayLike | None = None,
    num_directions: int = 200,
    mu: float = 0.001,
    learning_rate: float = 0.2,
    **options: Unpack[SharedOptions],
) -> Result:
    r"""Descent of the distance to the boundary, as a function of the direction.

    .. math::
        g(\theta) = \min\{\lambda > 0 : x + \lambda\,\theta / |\theta| \text{ is adversarial}\}, \qquad
        \hat g = \frac{1}{N} \sum_{i=1}^{N} \mathrm{sign}(g(\theta + \mu u_i) - g(\theta))\, u_i

    One label tells a sign: :math:`\theta + \mu u` is better if its image at the distance
    :math:`g(\theta)` is adversarial. A line search steps to :math:`\theta - \alpha \hat g / |\hat g|`, for
    Linf along the sign. One query tells whether the step shortens the distance by 0.1 %. If so, bisection
    finds the new distance and alpha doubles, at most 15 times; else alpha falls to a quarter.

    The mean over better directions less the mean over the others replaces :math:`\hat g`, to reduce its
    variance. The paper starts from the best of 100 random directions, this attack from one.

    Args:
      x: images (batch, ...) in [0, 1], of any shape.
      num_directions: N.
      mu: smoothing radius of the unit vector theta.
      learning_rate: alpha, the first step of a line search.

    References:
      Cheng et al., `Sign-OPT: a query-efficient hard-label adversarial attack
      <https://arxiv.org/abs/1909.10773>`_, 2020.

    >>> import jax, jax.numpy as jnp
    >>> from zojax import attacks
    >>> x = jax.random.uniform(jax.random.key(1), (8, 6, 6))
    >>> w = jax.random.normal(jax.random.key(2), (36, 3))
    >>> label_fn = lambda images: jnp.argmax(images.reshape(-1, 36) @ w, axis=1)
    >>> found = attacks.sign_opt(0, label_fn, x, label_fn(x), budget=500)
    >>> bool(found.success.all()), bool(jnp.median(found.norms) < 0.3)
    (True, True)
    """
    attack = sign_opt_attack(norm, num_directions, mu, learning_rate)
    return run(key, attack, model, x, y, eps, budget, targeted, starts=starts, **options)


@reused(num_directions=require_count)
def sign_opt_attack(
    norm: str = "l2", num_directions: int = 200, mu: float = 0.001, learning_rate: float = 0.2
) -> Attack:
    """The rounds of `sign_opt`, for `run` and `ask_tell`."""

    def probe(key, x, near, t):
        del t
        distance = _ball.length(near - x, norm)
        u = _ball.steepest(normals(key, x.shape), "l2")
        direction = near - x + resolved(mu * distance, x) * u
        return x + direction * (distance / jnp.maximum(_ball.length(direction, norm), 1e-30))

    def step(x, near, normal, rate, t):
        del t
        distance = _ball.length(near - x, norm)
        direction = near - x + rate * distance * _ball.steepest(normal, norm)
        return turned(x, direction, distance, norm)

    def tolerance(x, near):
        return mu * x.size**-0.5

    def probes(t):
        del t
        return jnp.int32(num_directions)

    moves = Moves(probes, probe, step, tolerance, learning_rate, shrink=0.25, tries=15, steps=15)
    return walk(norm, moves)
