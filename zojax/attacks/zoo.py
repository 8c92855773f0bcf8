"""ZOO: symmetric differences of random pixels, and Adam with one step counter per pixel."""

from typing import NamedTuple, Unpack

import jax
import jax.numpy as jnp
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


class ZooState(NamedTuple):
    """Adam's moments, and the number of visits of each pixel."""

    mean: jax.Array
    square: jax.Array
    visits: jax.Array


@documented
def zoo(
    key: int | jax.Array,
    model: Model,
    x: ArrayLike,
    y: ArrayLike,
    eps: float | jax.Array,
    norm: str = "l2",
    budget: int = 10_000,
    targeted: bool = False,
    *,
    coordinates: int = 16,
    mu: float = 0.05,
    learning_rate: float = 0.05,
    **options: Unpack[SharedOptions],
) -> Result:
    r"""Coordinate descent with Adam on finite differences.

    .. math::
        g_k = \frac{L(x + \mu e_k) - L(x - \mu e_k)}{2\mu}, \qquad
        m_k \leftarrow \beta_1 m_k + (1 - \beta_1) g_k, \quad
        v_k \leftarrow \beta_2 v_k + (1 - \beta_2) g_k^2, \quad
        x_k \leftarrow x_k - \epsilon \eta \hat m_k / (\sqrt{\hat v_k} + 10^{-8})

    A round takes a few random pixels k, all different, and moves those with a slope. The bias correction
    of Adam counts the moves of pixel k. L is the margin :math:`z_y - \max_{j \ne y} z_j`. The paper trades
    L off against the perturbation's length; here the iterate is projected onto the ball. The points are
    projected too, so that each query may succeed.

    Args:
      x: images (batch, ...) in [0, 1], of any shape.
      coordinates: pixels of a round, each with two queries; at most the pixels of an image.
      mu: half the distance of the two points, in units of the image.
      learning_rate: eta of Adam, in units of eps.

    References:
      Chen et al., `ZOO: zeroth order optimization based black-box attacks
      <https://arxiv.org/abs/1708.03999>`_, 2017.

    >>> import jax, jax.numpy as jnp
    >>> from zojax import attacks
    >>> x = jax.random.uniform(jax.random.key(1), (8, 6, 6))
    >>> w = jax.random.normal(jax.random.key(2), (36, 3))
    >>> model = lambda images: images.reshape(-1, 36) @ w
    >>> found = attacks.zoo(0, model, x, jnp.argmax(model(x), 1), eps=2.0, learning_rate=0.2)
    >>> bool(found.success.all()), bool((found.norms <= 2.0 + 1e-6).all())
    (True, True)
    """
    attack = zoo_attack(norm, coordinates, mu, learning_rate)
    return run(key, attack, model, x, y, eps, budget, targeted, **options)


@reused(coordinates=require_count)
def zoo_attack(
    norm: str = "l2", coordinates: int = 16, mu: float = 0.05, learning_rate: float = 0.05
) -> Attack:
    """The rounds of `zoo`, for `run` and `ask_tell`."""

    def source(x):
        if coordinates > x.size:
            raise ValueError(
                f"coordinates must be at most the {x.size} of an image, got {coordinates}: pass less."
            )
        # A coordinate direction has length sqrt(d), so that its estimate is calibrated.
        return estimator(directions.coordinate(), mu=mu * x.size**-0.5, num_directions=coordinates)

    def start(x):
        return ZooState(jnp.zeros_like(x), jnp.zeros_like(x), jnp.zeros_like(x))

    def step(image, grads, state):
        visited = grads != 0  # a pixel without a slope stays
        visits = state.visits + visited
        mean = jnp.where(visited, 0.9 * state.mean + 0.1 * grads, state.mean)
        square = jnp.where(visited, 0.999 * state.square + 0.001 * grads**2, state.square)
        late = jnp.maximum(visits, 1)
        root = jnp.sqrt(square / (1 - 0.999**late)) + 1e-8
        move = learning_rate * mean / (1 - 0.9**late) / root
        return jnp.where(visited, move, 0.0), ZooState(mean, square, visits)

    return descend(norm, _losses.margin, source, 2 * coordinates, step, start)
