"""Bandits-TD: a prior on the gradient at low resolution, learnt by two queries a round."""

import math
from typing import NamedTuple, Unpack

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from zojax._checks import require_count
from zojax.attacks import _ball, _losses
from zojax.attacks._attack import Attack, Model
from zojax.attacks._ball import height_width_channels
from zojax.attacks._driver.run import run
from zojax.attacks._result import Result
from zojax.attacks._shared import SharedOptions, documented, reused


class BanditsState(NamedTuple):
    """The iterate, and one parameter of the prior for each tile and channel."""

    image: jax.Array
    theta: jax.Array


@documented
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
    **options: Unpack[SharedOptions],
) -> Result:
    r"""Descent along a prior gradient, which a bandit improves by two queries a round.

    The gradient changes slowly over time (T) and over pixels (D). So the attack keeps a prior v at low
    resolution; U v is v after upsampling. A round explores on both sides of v,

    .. math::
        q_\pm = v \pm \delta u, \quad u \sim N(0, I/d), \qquad
        \Delta = \frac{L(x + \mu\,\overline{U q_+}) - L(x + \mu\,\overline{U q_-})}{\delta\mu} \delta u,

    where the bar divides by the length. Then v steps: for Linf by exponentiated gradients on [-1, 1],
    :math:`v = \tanh\theta,\ \theta \leftarrow \theta - h\Delta`, for L2 by
    :math:`v \leftarrow v - h\Delta`. Last, x moves by :math:`\eta\,\epsilon` along U v, or for Linf along
    its sign.

    L is the log-odds of the true class. It has the level sets of the paper's cross-entropy, and a slope
    where the model is certain; it needs a smaller h than the paper's 100. Both points are projected, so
    that each query may succeed.

    Args:
      tiles: rows and columns of the prior; min(50, half the image's) by default.
      mu: length of the step of the two queries, in units of the image.
      exploration: delta.
      prior_rate: h, the learning rate of the prior.
      learning_rate: eta, in units of eps; 0.2 is the paper's 0.01 at eps = 0.05.

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
    return run(key, attack, model, x, y, eps, budget, targeted, **options)


@reused(tiles=require_count)
def bandits_attack(
    norm: str = "linf",
    tiles: int | None = None,
    mu: float = 0.1,
    exploration: float = 1.0,
    prior_rate: float = 0.1,
    learning_rate: float = 0.2,
) -> Attack:
    """The rounds of `bandits`, for `run` and `ask_tell`."""

    def prior(theta):
        return jnp.tanh(theta) if norm == "linf" else theta

    def explored(key, shape):
        """The exploration step, added to the prior and subtracted from it."""
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
        # Exponentiated gradients of (1 + v) / 2 and (1 - v) / 2 add to theta = artanh(v).
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
