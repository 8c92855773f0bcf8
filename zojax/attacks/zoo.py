"""ZOO: symmetric differences of random pixels, and Adam with a clock of its own for every pixel."""

from functools import lru_cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from zojax import directions
from zojax._checks import require_count, require_positive
from zojax._estimator import estimator
from zojax.attacks import _driver, _losses
from zojax.attacks._checks import check_norm
from zojax.attacks._descent import descend
from zojax.attacks._driver import Attack, Model
from zojax.attacks._result import Result


class ZooState(NamedTuple):
    """Adam's moments, and how often each pixel was visited."""

    mean: jax.Array
    square: jax.Array
    visits: jax.Array


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
    output: str = "logits",
    layout: str | None = None,
    batch_size: int | None = None,
    jit: bool = True,
) -> Result:
    r"""Coordinate descent with Adam on finite differences.

    .. math::
        g_k = \frac{L(x + \mu e_k) - L(x - \mu e_k)}{2\mu}, \qquad
        m_k \leftarrow \beta_1 m_k + (1 - \beta_1) g_k, \quad
        v_k \leftarrow \beta_2 v_k + (1 - \beta_2) g_k^2, \quad
        x_k \leftarrow x_k - \epsilon \eta \hat m_k / (\sqrt{\hat v_k} + 10^{-8})

    for a few random pixels k of a round, all different, that have a slope. The moments are corrected for
    their start by the number of these visits of pixel k; L is the margin
    :math:`z_y - \max_{j \ne y} z_j`. The paper trades L off against the perturbation's length; here the
    iterate is projected onto the ball instead. Points are projected too, so that each of them is an image
    that may succeed.

    Args:
      key: an int or a JAX key.
      model: images (n, ...) in [0, 1] -> scores (n, classes); traceable by JAX unless `jit=False`. The
        same function object compiles once.
      x: images (batch, ...) in [0, 1], of any shape.
      y: (batch,) ints, the true classes, or the targets.
      eps: radius of the ball.
      norm: "l2" or "linf".
      budget: most queries an image, the first of them for x itself; gradient estimates take
        more queries than random search, hence the larger default.
      targeted: whether y is the class to reach instead of the class to leave.
      coordinates: pixels of a round, which is twice as many queries; at most those of an image.
      mu: half the distance of the two points, in units of the image.
      learning_rate: eta of Adam, in units of eps.
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
    return _driver.run(
        key, attack, model, x, y, eps, budget, targeted, output, layout, batch_size, jit
    )


def zoo_attack(
    norm: str = "l2", coordinates: int = 16, mu: float = 0.05, learning_rate: float = 0.05
) -> Attack:
    """The rounds of `zoo`, for `ask_tell`."""
    require_positive("mu", mu)
    require_positive("learning_rate", learning_rate)
    n = require_count("coordinates", coordinates)
    return _rounds(check_norm(norm), n, float(mu), float(learning_rate))


@lru_cache
def _rounds(norm: str, n: int, mu: float, learning_rate: float) -> Attack:
    def source(x):
        if n > x.size:
            raise ValueError(
                f"coordinates must be at most the {x.size} of an image, got {n}: pass less."
            )
        # A coordinate direction has length sqrt(d), so that its estimate is calibrated.
        return estimator(directions.coordinate(), mu=mu * x.size**-0.5, num_directions=n)

    def start(x):
        return ZooState(jnp.zeros_like(x), jnp.zeros_like(x), jnp.zeros_like(x))

    def step(image, grads, state):
        visited = grads != 0  # a pixel without a slope is as good as not visited
        visits = state.visits + visited
        mean = jnp.where(visited, 0.9 * state.mean + 0.1 * grads, state.mean)
        square = jnp.where(visited, 0.999 * state.square + 0.001 * grads**2, state.square)
        late = jnp.maximum(visits, 1)
        root = jnp.sqrt(square / (1 - 0.999**late)) + 1e-8
        move = learning_rate * mean / (1 - 0.9**late) / root
        return jnp.where(visited, move, 0.0), ZooState(mean, square, visits)

    return descend(norm, _losses.margin, source, 2 * n, step, start)
