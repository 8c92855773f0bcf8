"""Bandits-TD: a prior on the gradient, learnt in large tiles by two queries a round."""

import math
from functools import lru_cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from zojax._checks import require_count, require_positive
from zojax.attacks import _ball, _driver, _losses
from zojax.attacks._ball import height_width_channels
from zojax.attacks._checks import check_norm
from zojax.attacks._driver import Attack, Model
from zojax.attacks._result import Result


class BanditsState(NamedTuple):
    """The iterate, and the prior's parameters, one for each tile and channel."""

    image: jax.Array
    theta: jax.Array


def bandits(
    key: int | jax.Array,
    model: Model,
    x: ArrayLike,
    y: ArrayLike,
    eps: float | jax.Array,
    norm: str = "linf",
    budget: int = 10_000,
    targeted: bool = False,
    *,
    tiles: int | None = None,
    mu: float = 0.1,
    exploration: float = 1.0,
    prior_rate: float = 0.1,
    learning_rate: float = 0.2,
    output: str = "logits",
    layout: str | None = None,
    batch_size: int | None = None,
    jit: bool = True,
) -> Result:
    r"""Descent along a prior that a bandit improves from two queries a round.

    The gradient changes slowly from step to step (T) and is alike in neighbouring pixels (D), so it is kept
    as a prior v at low resolution, U v after upsampling. A round explores on both sides of it,

    .. math::
        q_\pm = v \pm \delta u, \quad u \sim N(0, I/d), \qquad
        \Delta = \frac{L(x + \mu\,\overline{U q_+}) - L(x + \mu\,\overline{U q_-})}{\delta\mu} \delta u,

    where the bar divides by the length, and steps: v by exponentiated gradients on [-1, 1] for Linf,
    :math:`v = \tanh\theta,\ \theta \leftarrow \theta - h\Delta`, or by
    :math:`v \leftarrow v - h\Delta` for L2; then x by :math:`\eta\,\epsilon` along the sign of U v, or U v.
    L is the log-odds of the true class, which has the same level sets as the paper's cross-entropy but a
    slope where the model is certain, and needs a smaller h than the paper's 100. Both points are projected,
    so that each of them is an image that may succeed.

    Args:
      key: an int or a JAX key.
      model: images (n, ...) in [0, 1] -> scores (n, classes); traceable by JAX unless `jit=False`. The
        same function object compiles once.
      x: images (batch, height, width) or (batch, height, width, channels) in [0, 1].
      y: (batch,) ints, the true classes, or the targets.
      eps: radius of the ball.
      norm: "linf" or "l2".
      budget: most queries an image, the first of them for x itself; gradient estimates take
        more queries than random search, hence the larger default.
      targeted: whether y is the class to reach instead of the class to leave.
      tiles: rows and columns of the prior; min(50, half the image's) by default.
      mu: length of the step of the two queries, in units of the image.
      exploration: delta.
      prior_rate: h, the learning rate of the prior.
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
      Ilyas et al., `Prior convictions: black-box adversarial attacks with bandits and priors
      <https://arxiv.org/abs/1807.07978>`_, 2019.

    >>> import jax, jax.numpy as jnp
    >>> from zojax import attacks
    >>> x = jax.random.uniform(jax.random.key(1), (8, 6, 6))
    >>> w = jax.random.normal(jax.random.key(2), (36, 3))
    >>> model = lambda images: images.reshape(-1, 36) @ w
    >>> found = attacks.bandits(0, model, x, jnp.argmax(model(x), 1), eps=0.4, tiles=6)
    >>> bool(found.success.all()), bool((found.norms <= 0.4 + 1e-6).all())
    (True, True)
    """
    attack = bandits_attack(norm, tiles, mu, exploration, prior_rate, learning_rate)
    return _driver.run(
        key, attack, model, x, y, eps, budget, targeted, output, layout, batch_size, jit
    )


def bandits_attack(
    norm: str = "linf",
    tiles: int | None = None,
    mu: float = 0.1,
    exploration: float = 1.0,
    prior_rate: float = 0.1,
    learning_rate: float = 0.2,
) -> Attack:
    """The rounds of `bandits`, for `ask_tell`."""
    numbers = dict(
        mu=mu, exploration=exploration, prior_rate=prior_rate, learning_rate=learning_rate
    )
    for name, value in numbers.items():
        require_positive(name, value)
    tiles = None if tiles is None else require_count("tiles", tiles)
    return _rounds(check_norm(norm), tiles, *map(float, numbers.values()))


@lru_cache
def _rounds(
    norm: str,
    tiles: int | None,
    mu: float,
    exploration: float,
    prior_rate: float,
    learning_rate: float,
) -> Attack:
    def prior(theta):
        return jnp.tanh(theta) if norm == "linf" else theta

    def explored(key, shape):
        """The step to either side of the prior."""
        return exploration / math.prod(shape) ** 0.5 * jax.random.normal(key, shape, jnp.float32)

    def init(key, x, loss):
        del key, loss
        height, width, channels = height_width_channels(x.shape)
        rows, columns = (min(tiles or min(50, -(-n // 2)), n) for n in (height, width))
        return BanditsState(x, jnp.zeros((rows, columns, channels), x.dtype))

    def propose(key, state, x, eps, t):
        del eps, t
        step = explored(key, state.theta.shape)
        both = jnp.stack([prior(state.theta) + step, prior(state.theta) - step])
        unit = jax.vmap(lambda q: _ball.steepest(_upsample(q, x.shape), "l2"))(both)
        return state.image + mu * unit

    def update(key, state, x, eps, t, points, losses):
        del t, points
        slope = (losses[0] - losses[1]) / (exploration * mu)
        slope = jnp.where(jnp.isfinite(slope), slope, 0.0)
        # (1 + v) / 2 and (1 - v) / 2, multiplied by exp(-+ h slope), are tanh of a sum.
        theta = state.theta - prior_rate * slope * explored(key, state.theta.shape)
        move = learning_rate * eps * _ball.steepest(_upsample(prior(theta), x.shape), norm)
        return BanditsState(_ball.project(state.image + move, x, eps, norm), theta)

    return Attack(norm, _losses.log_odds, 2, init, propose, update)


def _upsample(tiles: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Every tile repeated over its pixels, cut off at the image's edge."""
    height, width, _ = height_width_channels(shape)
    rows, columns = tiles.shape[:2]
    high, wide = -(-height // rows), -(-width // columns)
    return tiles.repeat(high, 0).repeat(wide, 1)[:height, :width].reshape(shape)
